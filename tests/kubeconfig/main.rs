//! What kubectl itself reads: in a kubeconfig before and after coracle changed it, and in a manifest.
//!
//! Needs kubectl: the one in `CORACLE_TEST_KUBECTL`, else the one in `PATH`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod manifests;
mod property;

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use coracle::error::Code;
use coracle::kubeconfig::{Entry, Location, merge, namespace, preflight, remove, remove_from};
use serde_json::{Value, json};

const LISTS: [&str; 3] = ["clusters", "contexts", "users"];

fn kubectl(file: &Path, arguments: &[&str]) -> Output {
    let program = env::var_os("CORACLE_TEST_KUBECTL").unwrap_or_else(|| OsString::from("kubectl"));
    Command::new(&program)
        .args(arguments)
        .env("KUBECONFIG", file)
        .output()
        .unwrap_or_else(|error| panic!("kubectl is needed, set CORACLE_TEST_KUBECTL: {}: {error}", program.display()))
}

/// What kubectl reads in `files`, a list as in `KUBECONFIG`; `None` if it reads nothing.
fn view(files: &Path) -> Option<Value> {
    let output = kubectl(files, &["config", "view", "--raw", "-o", "json"]);
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// What kubectl reads, with the entry `name` taken out, and how many items that were.
fn without(mut config: Value, name: &str) -> (Value, usize) {
    let mut taken = 0;
    for list in LISTS {
        if let Some(items) = config[list].as_array_mut() {
            let before = items.len();
            items.retain(|item| item["name"] != name);
            taken += before - items.len();
            if items.is_empty() {
                config[list] = Value::Null;
            }
        }
    }
    (config, taken)
}

fn entry(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        server: "https://127.0.0.1:6443".to_owned(),
        ca_pem: format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", "QUJD".repeat(300)),
        client_cert_pem: "CERT".to_owned(),
        client_key_pem: "KEY".to_owned(),
    }
}

fn location(file: &Path) -> Location {
    Location::new(Some(file), None, None).unwrap()
}

fn list_of(files: &[&Path]) -> (PathBuf, Location) {
    let list = env::join_paths(files).unwrap();
    let location = Location::new(None, Some(&list), None).unwrap();
    (PathBuf::from(list), location)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn nothing_is_lost_when_many_change_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("deep").join("config");
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, "# mine\nusers:\n- name: me # me\n  user: {token: t}\n").unwrap();
    for number in 0..10 {
        wait(merge(&location(&file), &entry(&format!("coracle-old{number}")), false)).unwrap();
    }
    thread::scope(|scope| {
        for number in 0..10 {
            let file = &file;
            scope.spawn(move || wait(merge(&location(file), &entry(&format!("coracle-new{number}")), true)).unwrap());
            scope.spawn(move || assert!(wait(remove(&location(file), &format!("coracle-old{number}"))).unwrap()));
        }
    });
    let config = view(&file).unwrap();
    for list in LISTS {
        let names = config[list].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap());
        let names: std::collections::BTreeSet<_> = names.filter(|name| *name != "me").collect();
        assert_eq!(
            names,
            (0..10)
                .map(|number| format!("coracle-new{number}"))
                .collect::<Vec<_>>()
                .iter()
                .map(String::as_str)
                .collect()
        );
    }
    assert!(fs::read_to_string(&file).unwrap().starts_with("# mine\nusers:\n- name: me # me\n  user: {token: t}\n"));
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no locks or temporary files are left");
}

#[test]
fn what_kubectl_sets_meanwhile_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (file, done) = (&file, &done);
        // One kubectl at a time: two of them overwrite each other, and one removes what coracle adds between
        // its read and its lock. What coracle must not do is lose what kubectl wrote.
        scope.spawn(move || {
            for number in 0..20 {
                let name = format!("theirs{number}");
                let deadline = Instant::now() + Duration::from_secs(30);
                // kubectl gives up at once when the file is locked.
                while !kubectl(file, &["config", "set-cluster", &name, "--server=https://x"]).status.success() {
                    assert!(Instant::now() < deadline, "kubectl never got the lock");
                }
            }
            done.store(true, Relaxed);
        });
        for worker in 0..3 {
            scope.spawn(move || {
                for number in 0.. {
                    let name = format!("coracle-{worker}-{number}");
                    wait(merge(&location(file), &entry(&name), true)).unwrap();
                    wait(remove(&location(file), &name)).unwrap();
                    if done.load(Relaxed) {
                        break;
                    }
                    thread::sleep(Duration::from_millis(40));
                }
            });
        }
    });
    let config = view(&file).unwrap();
    let names = config["clusters"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("theirs")).count(), 20);
}

#[test]
fn lists_of_files_follow_kubectls_rules() {
    let directory = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| directory.path().join(name));
    let (list, location) = list_of(&[&a, &b, &c]);
    // Nothing exists: the last one is made.
    assert_eq!(wait(merge(&location, &entry("coracle-dev"), true)).unwrap(), c);
    assert!(!a.exists() && !b.exists());
    // A file before it appears: what is there stays there, the current context goes to the first file.
    fs::write(&b, "current-context: x\n").unwrap();
    assert_eq!(wait(merge(&location, &entry("coracle-dev"), true)).unwrap(), c);
    assert_eq!(wait(merge(&location, &entry("coracle-two"), false)).unwrap(), b);
    let config = view(&list).unwrap();
    assert_eq!(config["current-context"], "coracle-dev");
    assert_eq!(config["clusters"].as_array().unwrap().len(), 2);
    // Only files that have the entry are written.
    let untouched = fs::metadata(&c).unwrap().ino();
    assert!(wait(remove(&location, "coracle-two")).unwrap());
    assert_eq!(fs::metadata(&c).unwrap().ino(), untouched);
    assert!(wait(remove(&location, "coracle-dev")).unwrap());
    let config = view(&list).unwrap();
    assert_eq!((&config["clusters"], &config["current-context"]), (&Value::Null, &json!("")));
    assert!(!wait(remove(&location, "coracle-dev")).unwrap());
}

#[test]
fn files_keep_their_mode_owner_and_links() {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("made").join("here").join("config");
    wait(merge(&location(&new), &entry("coracle-dev"), true)).unwrap();
    assert_eq!((mode(&new), mode(new.parent().unwrap())), (0o600, 0o700));

    let [target, link, loose] = ["target", "link", "loose"].map(|name| directory.path().join(name));
    fs::write(&target, "").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("target", &link).unwrap();
    wait(merge(&location(&link), &entry("coracle-dev"), true)).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(mode(&target), 0o640);
    assert!(fs::read_to_string(&target).unwrap().contains("coracle-dev"));

    fs::write(&loose, "").unwrap();
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o660)).unwrap();
    wait(merge(&location(&loose), &entry("coracle-dev"), true)).unwrap();
    assert_eq!(mode(&loose), 0o660);

    if fs::metadata(directory.path()).unwrap().uid() == 0 {
        let theirs = directory.path().join("theirs").join("config");
        let under_sudo = |path: &Path| location(path).owned_by(Some("1234"), Some("2345"));
        wait(merge(&under_sudo(&theirs), &entry("coracle-dev"), true)).unwrap();
        for path in [&theirs, theirs.parent().unwrap()] {
            let metadata = fs::metadata(path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1234, 2345));
        }
        // An existing file is still theirs when root changes it without sudo.
        wait(remove(&location(&theirs), "coracle-dev")).unwrap();
        assert_eq!(fs::metadata(&theirs).unwrap().uid(), 1234);
        wait(merge(&under_sudo(&loose), &entry("coracle-two"), true)).unwrap();
        assert_eq!(fs::metadata(&loose).unwrap().uid(), 0);
    }
}

#[test]
fn a_file_that_nobody_may_write_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    wait(merge(&location(&file), &entry("coracle-dev"), true)).unwrap();
    let before = fs::read_to_string(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let errors = [
        preflight(&location(&file), "coracle-dev").unwrap_err(),
        wait(merge(&location(&file), &entry("coracle-two"), true)).unwrap_err(),
        wait(remove(&location(&file), "coracle-dev")).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code(), Code::FileFailed);
        assert!(error.hints()[0].contains(&format!("chmod u+w '{}'", file.display())), "{error:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_cluster_of_the_same_name_from_elsewhere_stays() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let ours = entry("coracle-dev");
    wait(merge(&location(&file), &ours, true)).unwrap();
    assert!(!wait(remove_from(&file, "coracle-dev", "another authority")).unwrap());
    assert!(wait(remove_from(&file, "coracle-dev", &ours.ca_pem)).unwrap());
    assert!(!wait(remove_from(&file, "coracle-dev", &ours.ca_pem)).unwrap());
    assert!(!wait(remove_from(&directory.path().join("none"), "coracle-dev", &ours.ca_pem)).unwrap());
}

#[test]
fn what_cannot_be_understood_is_reported_with_its_place_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let text = "users:\n- name: coracle-dev\n\t- x\n";
    fs::write(&file, text).unwrap();
    let errors = [
        preflight(&location(&file), "coracle-dev").unwrap_err(),
        wait(merge(&location(&file), &entry("coracle-dev"), true)).unwrap_err(),
        wait(remove(&location(&file), "coracle-dev")).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code(), Code::KubeconfigInvalid);
        assert_eq!(error.problems()[0].place, format!("{}:3:1", file.display()));
        assert!(error.problems()[0].snippet.is_none());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    // A file that has nothing of ours does not keep a cluster from being deleted.
    assert!(!wait(remove(&location(&file), "coracle-other")).unwrap());
}

#[test]
fn preflight_finds_what_would_fail_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("made").join("config");
    preflight(&location(&new), "coracle-dev").unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    assert_eq!(preflight(&location(directory.path()), "coracle-dev").unwrap_err().code(), Code::FileFailed);
    assert_eq!(
        preflight(&location(Path::new("/proc/none/config")), "coracle-dev").unwrap_err().code(),
        Code::FileFailed
    );
    preflight(&location(Path::new("/dev/null")), "coracle-dev").unwrap();
    wait(merge(&location(Path::new("/dev/null")), &entry("coracle-dev"), true)).unwrap();
    fs::write(directory.path().join("config.lock"), "").unwrap();
    let error = preflight(&location(&directory.path().join("config")), "coracle-dev").unwrap_err();
    assert_eq!(error.code(), Code::KubeconfigLocked);
}

#[test]
fn the_namespace_of_a_context_is_the_one_that_kubectl_reads() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    for text in [
        "\u{feff}contexts:\r\n- context: {namespace: one}\r\n  name: a\r\n",
        "{\"contexts\":\t[{\"name\": \"a\", \"context\": {\"namespace\": \"one\"}}]}",
        "contexts: [{name: a}]",
        "contexts: [{name: a, context: {namespace: ~}}]",
        "contexts: []\ncontexts:\n- name: b\n  name: a\n  context: {namespace: two, namespace: one}\n",
        "contexts: [{name: a, context: {namespace: one}}]\n---\ncontexts: [{name: a, context: {namespace: two}}]\n",
        "x: &x {namespace: one}\ncontexts:\n- {name: &n a, context: *x}\n",
        "x: &x {namespace: two}\ny: &x {namespace: one}\ncontexts:\n- {name: a, context: *x}\n",
        "x: &x {namespace: one}\ny: &y {context: {<<: [{}, *x], cluster: c}}\ncontexts: [{<<: *y, name: a}]\n",
        "x: &x {namespace: two}\ncontexts: [{name: a, context: {<<: *x, namespace: one}}]\n",
        "x: &x\n  contexts: [{name: a, context: {namespace: one}}]\n<<: *x\n",
    ] {
        fs::write(&file, text).unwrap();
        let config = view(&file).unwrap_or_else(|| panic!("kubectl does not read {text:?}"));
        let context = config["contexts"].as_array().and_then(|list| list.iter().find(|item| item["name"] == "a"));
        let expected = context.and_then(|item| item["context"]["namespace"].as_str());
        assert_eq!(namespace(&location(&file), "a").as_deref(), expected, "{text:?}");
    }
}
