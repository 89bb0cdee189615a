//! What CI systems show of a run: its steps as groups of lines, as results that test reporters read and as a summary.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::time::Instant;

use crate::error::{Code, Error, Result};
use crate::ui::Ui;

/// What a run leaves for a CI system.
#[derive(Debug, Clone, Args)]
pub(super) struct CiOptions {
    /// Fold the output into groups on GitHub and GitLab, and write GitHub's summary [default: on if `CI` is `true`]
    #[arg(long)]
    ci: bool,
    /// Write the steps and their results to this file, in JUnit format
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Whose log the output is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    GitHub,
    GitLab,
    Other,
}

/// A step that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ended {
    name: String,
    took: Duration,
    /// Why it failed.
    failure: Option<String>,
}

/// The steps of a run, told as they begin and end.
#[derive(Debug)]
pub(super) struct Steps {
    system: System,
    junit: Option<PathBuf>,
    summary: Option<PathBuf>,
    /// Of the step that goes on: its name, whether its lines are a group, and when it began.
    current: Option<(String, bool, Instant)>,
    ended: Vec<Ended>,
}

impl Steps {
    /// Fails if the results could not be written at the end: before a cluster is made for them.
    pub(super) fn new(options: &CiOptions, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let is_set = |name: &str| variable(name).is_some_and(|value| !["", "false", "0"].contains(&value.as_str()));
        let is_ci = options.ci || is_set("CI");
        let system = match is_ci {
            true if is_set("GITHUB_ACTIONS") => System::GitHub,
            true if is_set("GITLAB_CI") => System::GitLab,
            _ => System::Other,
        };
        if let Some(path) = &options.junit {
            File::create(path).map_err(|source| unwritten(path, &source))?;
        }
        let summary = variable("GITHUB_STEP_SUMMARY").filter(|path| is_ci && !path.is_empty()).map(PathBuf::from);
        Ok(Self { system, junit: options.junit.clone(), summary, current: None, ended: Vec::new() })
    }

    /// Begins a step; `grouped` if its lines matter only when it fails.
    pub(super) fn begin(&mut self, ui: &Ui, name: impl Into<String>, grouped: bool) {
        let name = name.into();
        if let Some(line) = self.system.opens(&name, seconds()).filter(|_| grouped) {
            ui.note(line);
        }
        self.current = Some((name, grouped, Instant::now()));
    }

    /// Ends the step that goes on.
    pub(super) fn end(&mut self, ui: &Ui, failure: Option<String>) {
        let Some((name, grouped, began)) = self.current.take() else { return };
        if let Some(line) = self.system.closes(&name, seconds()).filter(|_| grouped) {
            ui.note(line);
        }
        if let Some(line) = failure.as_deref().and_then(|failure| self.system.failed(&name, failure)) {
            ui.note(line);
        }
        self.ended.push(Ended { name, took: began.elapsed(), failure });
    }

    /// Writes what is asked for; a failure changes nothing about how the run went.
    pub(super) fn write(&self, ui: &Ui) {
        let junit = self.junit.as_ref().map(|path| (path, std::fs::write(path, junit(&self.ended))));
        let append = |path: &PathBuf| {
            OpenOptions::new().create(true).append(true).open(path)?.write_all(summary(&self.ended).as_bytes())
        };
        let summary = self.summary.as_ref().map(|path| (path, append(path)));
        for (path, written) in junit.into_iter().chain(summary) {
            if let Err(source) = written {
                ui.warn(unwritten(path, &source).to_string());
            }
        }
    }
}

fn unwritten(path: &Path, source: &std::io::Error) -> Error {
    Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).with_cause(source)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl System {
    /// The line after which lines are folded.
    fn opens(self, name: &str, now: u64) -> Option<String> {
        match self {
            Self::GitHub => Some(format!("::group::{name}")),
            Self::GitLab => {
                Some(format!("\x1b[0Ksection_start:{now}:{}[collapsed=true]\r\x1b[0K{name}", section(name)))
            }
            Self::Other => None,
        }
    }

    fn closes(self, name: &str, now: u64) -> Option<String> {
        match self {
            Self::GitHub => Some("::endgroup::".to_owned()),
            Self::GitLab => Some(format!("\x1b[0Ksection_end:{now}:{}\r\x1b[0K", section(name))),
            Self::Other => None,
        }
    }

    /// The line that GitHub shows at the top of the job.
    fn failed(self, name: &str, failure: &str) -> Option<String> {
        let escaped = failure.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        (self == Self::GitHub).then(|| format!("::error title=coracle: {name}::{escaped}"))
    }
}

/// The name of a section: GitLab takes no other letters.
fn section(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// The steps as the XML of `JUnit`.
fn junit(steps: &[Ended]) -> String {
    let total: Duration = steps.iter().map(|step| step.took).sum();
    let failed = steps.iter().filter(|step| step.failure.is_some()).count();
    let counts = format!("tests=\"{}\" failures=\"{failed}\" time=\"{:.3}\"", steps.len(), total.as_secs_f64());
    let mut text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n");
    let _ = writeln!(text, "  <testsuite name=\"coracle run\" {counts}>");
    for step in steps {
        let case = format!("name=\"{}\" classname=\"coracle\"", escaped(&step.name));
        let time = format!("time=\"{:.3}\"", step.took.as_secs_f64());
        let _ = match &step.failure {
            None => writeln!(text, "    <testcase {case} {time}/>"),
            Some(failure) => writeln!(
                text,
                "    <testcase {case} {time}>\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                escaped(failure.lines().next().unwrap_or_default()),
                escaped(failure)
            ),
        };
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

fn escaped(text: &str) -> String {
    // XML has no way to write other control characters.
    let shown: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The steps as a table of Markdown.
fn summary(steps: &[Ended]) -> String {
    let mut text = "### coracle\n\n| step | result | time |\n|---|---|---|\n".to_owned();
    for step in steps {
        let cell = |text: &str| text.replace('|', "\\|").replace(['\r', '\n'], " ");
        let result =
            step.failure.as_deref().map_or("passed".to_owned(), |failure| format!("**failed**: {}", cell(failure)));
        let _ = writeln!(text, "| {} | {result} | {:.1} s |", cell(&step.name), step.took.as_secs_f64());
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::UiOptions;

    fn said(variables: &[(&str, &str)], options: &CiOptions) -> (Steps, String) {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let mut steps = Steps::new(options, variable).unwrap();
        let (ui, capture) = Ui::captured(UiOptions::default());
        steps.begin(&ui, "Create cluster `a`", true);
        steps.end(&ui, None);
        steps.begin(&ui, "Run `make | test`", false);
        steps.end(&ui, Some("it ended with <1> & said\n100 %".to_owned()));
        steps.write(&ui);
        (steps, capture.stderr())
    }

    const NONE: CiOptions = CiOptions { ci: false, junit: None };

    #[test]
    fn lines_are_folded_where_the_system_can() {
        assert_eq!(said(&[], &NONE).1, "");
        assert_eq!(said(&[("GITHUB_ACTIONS", "true")], &NONE).1, "", "without CI it is somebody at a terminal");
        assert_eq!(
            said(&[("CI", "true"), ("GITHUB_ACTIONS", "true")], &NONE).1,
            "::group::Create cluster `a`\n::endgroup::\n\
             ::error title=coracle: Run `make | test`::it ended with <1> & said%0A100 %25\n"
        );
        let of_gitlab = said(&[("GITLAB_CI", "true")], &CiOptions { ci: true, junit: None }).1;
        assert!(of_gitlab.contains(":create_cluster__a_[collapsed=true]\r\x1b[0KCreate cluster `a`\n"), "{of_gitlab}");
        assert!(of_gitlab.contains("section_end:"), "{of_gitlab}");
    }

    #[test]
    fn results_and_summary_are_files_that_readers_understand() {
        let directory = tempfile::tempdir().unwrap();
        let [results, summary] = ["junit.xml", "summary.md"].map(|name| directory.path().join(name));
        std::fs::write(&summary, "before\n").unwrap();
        let summary_path = summary.display().to_string();
        let options = CiOptions { ci: true, junit: Some(results.clone()) };
        let (steps, _) = said(&[("GITHUB_STEP_SUMMARY", &summary_path)], &options);
        assert_eq!(steps.ended.len(), 2);
        let text = std::fs::read_to_string(results).unwrap();
        for part in [
            "<testsuite name=\"coracle run\" tests=\"2\" failures=\"1\"",
            "<testcase name=\"Create cluster `a`\" classname=\"coracle\" time=\"0.",
            "<failure message=\"it ended with &lt;1&gt; &amp; said\">it ended with &lt;1&gt; &amp; said\n100 %</failure>",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let text = std::fs::read_to_string(summary).unwrap();
        assert!(text.starts_with("before\n### coracle\n"), "{text}");
        assert!(
            text.contains("| Run `make \\| test` | **failed**: it ended with <1> & said 100 % | 0.0 s |"),
            "{text}"
        );
    }

    #[test]
    fn results_that_cannot_be_written_are_told_at_once() {
        let options = CiOptions { ci: false, junit: Some("/nowhere/junit.xml".into()) };
        let error = Steps::new(&options, |_| None).unwrap_err();
        assert!(error.to_string().contains("/nowhere/junit.xml"), "{error}");
    }
}
