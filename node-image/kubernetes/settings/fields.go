package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// special are types that read themselves from JSON, and what they read.
var special = map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":      "duration",
	"k8s.io/apimachinery/pkg/api/resource.Quantity":      "quantity",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":          "string",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":     "string",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":    "any",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":       "any",
	"k8s.io/apimachinery/pkg/api/resource.QuantityValue": "quantity",
}

// builtin are Go's own types and what they are in JSON.
var builtin = map[string]string{
	"string": "string", "bool": "boolean", "byte": "uint8", "any": "any", "error": "any",
	"int": "int64", "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
	"uint": "uint64", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
	"float32": "number", "float64": "number",
}

// source is one package.
type source struct {
	path  string
	types map[string]*ast.TypeSpec
	docs  map[string]*ast.File
	reads map[string]bool // types that have UnmarshalJSON
	files []*ast.File
}

// sources are the packages that were needed so far, and the structures that were found in them.
type sources struct {
	packages map[string]*source
	types    map[string]map[string]Setting
	names    map[string]string // the name in types of each structure, by package and name
}

func newSources() *sources {
	return &sources{map[string]*source{}, map[string]map[string]Setting{}, map[string]string{}}
}

// open parses a package of the module's dependencies.
func (s *sources) open(path string) (*source, error) {
	if found := s.packages[path]; found != nil {
		return found, nil
	}
	said, err := exec.Command("go", "list", "-find", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w%s", path, err, stderr(err))
	}
	opened := &source{path: path, types: map[string]*ast.TypeSpec{}, docs: map[string]*ast.File{}, reads: map[string]bool{}}
	directory := strings.TrimSpace(string(said))
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(directory, entry.Name()), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		opened.add(file)
	}
	s.packages[path] = opened
	return opened, nil
}

func (p *source) add(file *ast.File) {
	p.files = append(p.files, file)
	for _, declaration := range file.Decls {
		switch declaration := declaration.(type) {
		case *ast.GenDecl:
			for _, spec := range declaration.Specs {
				if spec, ok := spec.(*ast.TypeSpec); ok {
					p.types[spec.Name.Name] = spec
					p.docs[spec.Name.Name] = file
				}
			}
		case *ast.FuncDecl:
			if declaration.Recv != nil && declaration.Name.Name == "UnmarshalJSON" {
				receiver := declaration.Recv.List[0].Type
				if star, ok := receiver.(*ast.StarExpr); ok {
					receiver = star.X
				}
				if name, ok := receiver.(*ast.Ident); ok {
					p.reads[name.Name] = true
				}
			}
		}
	}
}

// named is what a named type is in JSON.
func (s *sources) named(path, name string) (string, error) {
	if found := special[path+"."+name]; found != "" {
		return found, nil
	}
	opened, err := s.open(path)
	if err != nil {
		return "", err
	}
	spec := opened.types[name]
	if spec == nil {
		return "", fmt.Errorf("%s has no type %s", path, name)
	}
	if opened.reads[name] {
		return "any", nil
	}
	structure, ok := spec.Type.(*ast.StructType)
	if !ok {
		return s.expression(opened, opened.docs[name], spec.Type)
	}
	if known := s.names[path+"."+name]; known != "" {
		return "#" + known, nil
	}
	unique := name
	if s.types[unique] != nil {
		unique = path + "." + name
	}
	s.names[path+"."+name] = unique
	s.types[unique] = map[string]Setting{}
	return "#" + unique, s.fields(opened, opened.docs[name], structure, s.types[unique])
}

// fields adds the fields of a structure, and those of the structures that are embedded in it.
func (s *sources) fields(opened *source, file *ast.File, structure *ast.StructType, all map[string]Setting) error {
	for _, field := range structure.Fields.List {
		tag := ""
		if field.Tag != nil {
			text, err := strconv.Unquote(field.Tag.Value)
			if err != nil {
				return err
			}
			tag = reflect.StructTag(text).Get("json")
		}
		name, _, _ := strings.Cut(tag, ",")
		if name == "-" {
			continue
		}
		expression, err := s.expression(opened, file, field.Type)
		if err != nil {
			return err
		}
		if len(field.Names) == 0 && name == "" {
			structure, ok := strings.CutPrefix(expression, "#")
			if !ok {
				return fmt.Errorf("a structure of %s reads itself as %s: add it to `special`", opened.path, expression)
			}
			for embedded, setting := range s.types[structure] {
				all[embedded] = setting
			}
			continue
		}
		for _, ident := range field.Names {
			if !ident.IsExported() {
				continue
			}
			if name == "" {
				name = ident.Name
			}
			all[name] = Setting{Type: expression, Doc: sentence(field.Doc.Text())}
		}
	}
	return nil
}

// expression is what a type is in JSON.
func (s *sources) expression(opened *source, file *ast.File, expression ast.Expr) (string, error) {
	switch expression := expression.(type) {
	case *ast.StarExpr:
		return s.expression(opened, file, expression.X)
	case *ast.Ident:
		if found := builtin[expression.Name]; found != "" && opened.types[expression.Name] == nil {
			return found, nil
		}
		return s.named(opened.path, expression.Name)
	case *ast.SelectorExpr:
		path := imported(file, expression.X.(*ast.Ident).Name)
		return s.named(path, expression.Sel.Name)
	case *ast.ArrayType:
		item, err := s.expression(opened, file, expression.Elt)
		if item == "uint8" {
			return "string", err // bytes are base64 in JSON
		}
		return "[]" + item, err
	case *ast.MapType:
		item, err := s.expression(opened, file, expression.Value)
		return "{}" + item, err
	default:
		return "any", nil
	}
}

// imported is the path of the package that a file calls by this name.
func imported(file *ast.File, name string) string {
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if (spec.Name != nil && spec.Name.Name == name) || (spec.Name == nil && filepath.Base(path) == name) {
			return path
		}
	}
	return name
}

// stderr is what a command said before it failed.
func stderr(err error) string {
	if failed, ok := err.(*exec.ExitError); ok {
		return ": " + strings.TrimSpace(string(failed.Stderr))
	}
	return ""
}
