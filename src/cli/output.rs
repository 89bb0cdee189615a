//! Tables, names, JSON and YAML.

use std::fmt;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::error::{Code, Error, Result};
use crate::yaml;

/// In which format data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// A table with more columns
    Wide,
    // Without a text, as their names say it all: help then stays as short as that of other commands.
    Json,
    Yaml,
    /// Names only
    Name,
}

/// `--output` of a command whose table has more columns when it is wide.
#[derive(Debug, Clone, Args)]
pub(crate) struct WideTableOption {
    /// Output format
    #[arg(long, short, value_name = "FORMAT")]
    pub(super) output: Option<OutputFormat>,
}

/// `--output` of a command that prints things with names.
#[derive(Debug, Clone, Args)]
pub(crate) struct TableOption {
    /// Output format
    #[arg(long, short, value_name = "FORMAT", value_parser = without(&[OutputFormat::Wide]))]
    pub(super) output: Option<OutputFormat>,
}

/// `--output` of a command that prints values without names.
#[derive(Debug, Clone, Args)]
pub(crate) struct ValueOption {
    /// Output format
    #[arg(long, short, value_name = "FORMAT", value_parser = without(&[OutputFormat::Wide, OutputFormat::Name]))]
    pub(super) output: Option<OutputFormat>,
}

/// Reads a format; those that mean nothing for the command are still accepted, because they once were shown.
fn without(meaningless: &'static [OutputFormat]) -> impl TypedValueParser<Value = OutputFormat> {
    let values = OutputFormat::value_variants()
        .iter()
        .filter_map(|format| format.to_possible_value().map(|value| value.hide(meaningless.contains(format))));
    PossibleValuesParser::new(values).try_map(|text| OutputFormat::from_str(&text, false))
}

/// What a command prints, in each format.
pub(crate) struct Printed<'a> {
    /// As JSON and YAML.
    pub(super) value: Value,
    /// With `--output name`.
    pub(super) names: Vec<&'a str>,
    /// For people; the argument is whether the table is wide.
    pub(super) text: &'a dyn Fn(bool) -> String,
}

impl Printed<'_> {
    /// The text in the format that was asked for.
    pub(crate) fn render(&self, format: Option<OutputFormat>) -> Result<String> {
        match format {
            None => Ok((self.text)(false)),
            Some(OutputFormat::Wide) => Ok((self.text)(true)),
            Some(OutputFormat::Name) => Ok(self.names.iter().flat_map(|name| [name, "\n"]).collect()),
            Some(OutputFormat::Yaml) => yaml::to_string(&self.value),
            Some(OutputFormat::Json) => json(&self.value),
        }
    }
}

/// A value as JSON for people and programs.
pub(crate) fn json(value: &Value) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|source| Error::new(Code::StepFailed, "cannot write JSON").with_cause(&source))
}

/// A table with aligned columns.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub(crate) fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(|title| (*title).to_owned()).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.join("   ").trim_end())?;
        }
        Ok(())
    }
}

/// Bytes for people, as Docker writes them.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, tenth) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..100_000 => ("kB", 100),
        100_000..1_000_000_000 => ("MB", 100_000),
        _ => ("GB", 100_000_000),
    };
    let tenths = bytes / tenth;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Values in one line, with commas between them.
pub(crate) fn joined(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_means_nothing_is_accepted_and_not_shown() {
        let mut command = TableOption::augment_args(clap::Command::new("t"));
        let matches = command.clone().try_get_matches_from(["t", "-o", "wide"]).unwrap();
        assert_eq!(matches.get_one("output"), Some(&OutputFormat::Wide));
        assert!(command.clone().try_get_matches_from(["t", "-o", "xml"]).is_err());
        let help = command.render_long_help().to_string();
        assert!(help.contains("yaml") && !help.contains("wide"), "{help}");
    }

    #[test]
    fn small_sizes_are_no_zero() {
        let sizes = [0, 999, 1_250, 99_999, 100_000, 59_712_345, 2_500_000_000, 12_000_000_000].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.2 kB", "99.9 kB", "0.1 MB", "59.7 MB", "2.5 GB", "12.0 GB"]);
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = Table::new(&["NAME", "NODES"]);
        table.row(vec!["development".to_owned(), "3".to_owned()]);
        table.row(vec!["a".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "NAME          NODES\ndevelopment   3\na\n");
    }
}
