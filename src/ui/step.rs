//! One step of a command: a line of the tree, plain lines, or events.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use crate::ui::options::UiOptions;
use crate::ui::screen::{Screen, paint};
use crate::ui::timing::{Outcome, State, Timing, human, longest, seconds};

/// How often a transfer writes a `bytes` event at most.
const BYTES_EVENT_EVERY: Duration = Duration::from_millis(500);

/// A running step; several can run at once, and each can be shared by several tasks.
#[derive(Debug)]
pub struct Step {
    screen: Screen,
    name: String,
    started: Instant,
    branch: Option<Branch>,
    bytes_event_at: Mutex<Option<Instant>>,
    /// What was said last about each thing, and when.
    said: Mutex<BTreeMap<String, (String, Instant)>>,
    /// What was said before that, for `--timings`.
    states: Mutex<Vec<State>>,
    ended: bool,
}

impl Step {
    pub(super) fn start(screen: Screen, name: String) -> Self {
        let branch = screen.tree().map(|tree| Branch::new(tree, screen.options(), &name));
        let step = Self {
            screen,
            name,
            started: Instant::now(),
            branch,
            bytes_event_at: Mutex::default(),
            said: Mutex::default(),
            states: Mutex::default(),
            ended: false,
        };
        if step.json() {
            step.event(json!({ "event": "step", "name": step.name, "state": "started" }));
        }
        if step.branch.is_none() && !step.quiet() {
            let mark = if step.screen.options().unicode { "•" } else { "-" };
            step.screen.talk(&format!("{mark} {}\n", step.name));
        }
        step
    }

    /// Shows what a node or another part of the step is doing, instead of what it did before.
    ///
    /// Who waits may say so with every look: only what has changed is written.
    pub fn detail(&self, thing: &str, text: &str) {
        if !self.is_news(thing, text) {
            return;
        }
        if self.json() {
            self.event(json!({ "event": "detail", "name": self.name, "thing": thing, "message": text }));
        }
        if let Some(branch) = &self.branch {
            branch.detail(thing, text);
        } else if !self.quiet() && self.screen.options().verbose > 0 {
            self.screen.talk(&format!("    {thing}: {text}\n"));
        }
    }

    fn is_news(&self, thing: &str, text: &str) -> bool {
        let Ok(mut said) = self.said.lock() else { return true };
        if said.get(thing).is_some_and(|(last, _)| last == text) {
            return false;
        }
        if let Some((last, since)) = said.insert(thing.to_owned(), (text.to_owned(), Instant::now())) {
            self.is_over(thing, &last, since);
        }
        true
    }

    /// What was said about a thing is over; it stays on the screen until something else is said, or the step ends.
    pub fn settle(&self, thing: &str) {
        let last = self.said.lock().ok().and_then(|mut said| said.remove(thing));
        if let Some((text, since)) = last {
            self.is_over(thing, &text, since);
        }
    }

    /// Records what was said about a thing until now.
    fn is_over(&self, thing: &str, text: &str, since: Instant) {
        let Ok(mut states) = self.states.lock() else { return };
        let began = since.saturating_duration_since(self.screen.started());
        states.push(State { what: format!("{thing}: {text}"), began, duration: since.elapsed() });
    }

    /// Everything that was said about the parts of the step, which is now at its end.
    fn all_states(&self) -> Vec<State> {
        let said = self.said.lock().map(|mut said| std::mem::take(&mut *said)).unwrap_or_default();
        for (thing, (text, since)) in said {
            self.is_over(&thing, &text, since);
        }
        self.states.lock().map(|mut states| std::mem::take(&mut *states)).unwrap_or_default()
    }

    /// Shows how many bytes of `total` are done; a `total` of 0 is unknown.
    pub fn bytes(&self, done: u64, total: u64) {
        if let Some(branch) = &self.branch {
            let of = if total > 0 { format!(" of {}", HumanBytes(total)) } else { String::new() };
            branch.head.set_message(format!("{} ({}{of})", self.name, HumanBytes(done)));
        } else if self.json() && self.bytes_event_due(total > 0 && done >= total) {
            self.event(json!({ "event": "bytes", "name": self.name, "done": done, "total": total }));
        }
    }

    /// Ends the step: it did what it was for.
    pub fn finish(mut self) {
        self.end(Outcome::Finished);
    }

    fn json(&self) -> bool {
        self.screen.is_json()
    }

    fn quiet(&self) -> bool {
        self.screen.options().quiet
    }

    fn event(&self, event: serde_json::Value) {
        if !self.quiet() {
            self.screen.event(event);
        }
    }

    fn bytes_event_due(&self, complete: bool) -> bool {
        let Ok(mut last) = self.bytes_event_at.lock() else {
            return false;
        };
        let due = complete || last.is_none_or(|at| at.elapsed() >= BYTES_EVENT_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    fn end(&mut self, outcome: Outcome) {
        if self.ended {
            return;
        }
        self.ended = true;
        let duration = self.started.elapsed();
        let began = self.started.saturating_duration_since(self.screen.started());
        let states = longest(self.all_states());
        self.screen.record(Timing { name: self.name.clone(), began, duration, outcome, states });
        if self.json() {
            self.event(json!({
                "event": "step", "name": self.name, "state": outcome.word(), "seconds": seconds(duration),
            }));
        }
        if !self.quiet() {
            let options = self.screen.options();
            let mark = mark(outcome, options.unicode, options.color);
            let text = if let Some(branch) = &self.branch {
                branch.clear();
                format!("{mark} {}  {}\n", self.name, paint(&human(duration), "2", options.color))
            } else {
                format!("{mark} {} ({})\n", self.name, human(duration))
            };
            self.screen.talk(&text);
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.end(Outcome::Failed);
    }
}

fn mark(outcome: Outcome, unicode: bool, color: bool) -> String {
    match (outcome, unicode) {
        (Outcome::Finished, true) => paint("✓", "32", color),
        (Outcome::Finished, false) => paint("ok", "32", color),
        (Outcome::Failed, true) => paint("✗", "31", color),
        (Outcome::Failed, false) => paint("FAILED", "31", color),
    }
}

/// A step's lines in the tree: its own, and one below it for each thing with a detail.
#[derive(Debug)]
struct Branch {
    tree: MultiProgress,
    head: ProgressBar,
    /// In the order of the screen. The handles are kept: a bar whose last handle goes stays on the screen.
    details: Mutex<Vec<(String, ProgressBar)>>,
}

impl Branch {
    fn new(tree: &MultiProgress, options: UiOptions, name: &str) -> Self {
        let frames: &[&str] = if options.unicode {
            &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "]
        } else {
            &["|", "/", "-", "\\", " "]
        };
        let template =
            if options.color { "{spinner:.cyan} {msg}  {elapsed:.dim}" } else { "{spinner} {msg}  {elapsed}" };
        let head = tree.add(ProgressBar::new_spinner());
        head.set_style(style(template).tick_strings(frames));
        head.set_message(name.to_owned());
        head.enable_steady_tick(Duration::from_millis(100));
        Self { tree: tree.clone(), head, details: Mutex::default() }
    }

    fn detail(&self, thing: &str, text: &str) {
        let Ok(mut details) = self.details.lock() else {
            return;
        };
        let message = format!("{thing}: {text}");
        if let Some((_, line)) = details.iter().find(|(known, _)| known == thing) {
            line.set_message(message);
            return;
        }
        let above = details.last().map_or(&self.head, |(_, line)| line);
        let line = self.tree.insert_after(above, ProgressBar::new_spinner());
        line.set_style(style("    {wide_msg}"));
        line.set_message(message);
        details.push((thing.to_owned(), line));
    }

    fn clear(&self) {
        if let Ok(mut details) = self.details.lock() {
            for (_, line) in details.drain(..) {
                line.finish_and_clear();
                self.tree.remove(&line);
            }
        }
        self.head.finish_and_clear();
        self.tree.remove(&self.head);
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are constants that a test parses; the default is never used.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Ui;
    use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};

    fn unicode() -> UiOptions {
        UiOptions { unicode: true, ..UiOptions::default() }
    }

    #[test]
    fn plain_lines_have_no_carriage_returns() {
        let (ui, capture) = Ui::captured(unicode());
        let step = ui.step("Creating nodes");
        step.detail("dev-worker", "starting");
        step.bytes(1, 2);
        step.finish();
        drop(ui.step("Booting"));
        assert_eq!(capture.stderr(), "• Creating nodes\n✓ Creating nodes (0.0s)\n• Booting\n✗ Booting (0.0s)\n");
    }

    #[test]
    fn without_utf8_the_marks_are_ascii() {
        let (ui, capture) = Ui::captured(UiOptions { verbose: 1, ..UiOptions::default() });
        let step = ui.step("Creating nodes");
        step.detail("dev-worker", "starting");
        step.finish();
        drop(ui.step("Booting"));
        assert!(capture.stderr().is_ascii());
        assert!(capture.stderr().contains("    dev-worker: starting\n"));
        assert!(capture.stderr().ends_with("FAILED Booting (0.0s)\n"));
    }

    #[test]
    fn what_is_said_again_is_not_repeated() {
        let (ui, capture) = Ui::captured(UiOptions { verbose: 1, ..UiOptions::default() });
        let step = ui.step("Waiting");
        for (thing, text) in
            [("a", "starting"), ("b", "starting"), ("a", "starting"), ("a", "ready"), ("a", "starting")]
        {
            step.detail(thing, text);
        }
        step.finish();
        let said = capture.stderr();
        let details: Vec<_> = said.lines().filter(|line| line.starts_with("    ")).map(str::trim_start).collect();
        assert_eq!(details, ["a: starting", "b: starting", "a: ready", "a: starting"]);
        let (ui, capture) = Ui::captured(UiOptions { format: crate::ui::Format::Json, ..UiOptions::default() });
        let step = ui.step("Waiting");
        (0..40).for_each(|_| step.detail("a", "starting"));
        assert_eq!(capture.stdout().matches("\"detail\"").count(), 1);
    }

    #[test]
    fn steps_of_several_threads_are_all_recorded() {
        fn shared<T: Send + Sync>() {}
        shared::<Step>();
        let (ui, _capture) = Ui::captured(unicode());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let ui = ui.clone();
                scope.spawn(move || ui.step(format!("Step {number}")).finish());
            }
        });
        assert_eq!(ui.timings().len(), 8);
        assert!(ui.timings().iter().all(|timing| timing.outcome == Outcome::Finished));
    }

    #[test]
    fn templates_are_valid() {
        for template in ["{spinner:.cyan} {msg}  {elapsed:.dim}", "{spinner} {msg}  {elapsed}", "    {wide_msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }

    #[test]
    fn the_tree_shows_details_only_while_the_step_runs() {
        let screen = InMemoryTerm::new(20, 60);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 200);
        let (sink, capture) = crate::ui::Sink::captured();
        let ui = Ui::with_sink(unicode(), sink, Some(MultiProgress::with_draw_target(target)));
        let (first, second) = (ui.step("Creating nodes"), ui.step("Pulling"));
        first.detail("dev-control-plane", "starting");
        first.detail("dev-worker", "starting");
        first.detail("dev-control-plane", "booting");
        second.bytes(1024, 4096);
        std::thread::sleep(Duration::from_millis(300));
        let drawn = screen.contents();
        assert!(drawn.contains(" Creating nodes  0s\n    dev-control-plane: booting"), "{drawn}");
        assert!(drawn.contains("    dev-worker: starting"), "{drawn}");
        assert!(drawn.contains(" Pulling (1.00 KiB of 4.00 KiB)"), "{drawn}");
        first.finish();
        second.finish();
        screen.flush().unwrap();
        assert_eq!(screen.contents(), "");
        assert!(capture.stderr().starts_with("✓ Creating nodes  0."), "{}", capture.stderr());
    }
}
