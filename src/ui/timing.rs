//! How long each step took, for `--timings`.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was for.
    Finished,
    /// It failed or was interrupted.
    Failed,
}

impl Outcome {
    /// The word that events use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// One step that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// The step's name.
    pub name: String,
    /// When it began, counted from the start of the command.
    pub began: Duration,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// What took longest in it.
    pub states: Vec<State>,
}

/// What one part of a step did, or waited for, until that changed or the step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The part, such as a node, and what was said about it.
    pub what: String,
    /// When it began, counted from the start of the command.
    pub began: Duration,
    /// How long it lasted.
    pub duration: Duration,
}

/// Shorter states are not shown.
const MIN_STATE: Duration = Duration::from_millis(100);
/// How many states of a step are shown.
const MAX_STATES: usize = 6;

/// The states that lasted longest, in the order in which they began.
pub(super) fn longest(mut states: Vec<State>) -> Vec<State> {
    states.retain(|state| state.duration >= MIN_STATE);
    states.sort_by_key(|state| std::cmp::Reverse(state.duration));
    states.truncate(MAX_STATES);
    states.sort_by_key(|state| state.began);
    states
}

/// Renders the table: when each step began, how long it took, what was waited for in it, and the whole command.
pub(super) fn table(timings: &[Timing], total: Duration) -> String {
    let mut text = format!("{:>8} {:>8}  step\n", "began", "took");
    for timing in timings {
        let failed = if timing.outcome == Outcome::Failed { " (failed)" } else { "" };
        let (began, took) = (timing.began.as_secs_f64(), timing.duration.as_secs_f64());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{began:>7.2}s {took:>7.2}s  {}{failed}", timing.name);
        for state in &timing.states {
            let (began, took) = (state.began.as_secs_f64(), state.duration.as_secs_f64());
            let _ = writeln!(text, "{began:>7.2}s {took:>7.2}s    {}", state.what);
        }
    }
    let _ = writeln!(text, "{:>8} {:>7.2}s  total", "", total.as_secs_f64());
    text
}

/// The table as one event.
pub(super) fn event(timings: &[Timing], total: Duration) -> Value {
    let steps: Vec<Value> = timings
        .iter()
        .map(|timing| {
            json!({
                "name": timing.name,
                "state": timing.outcome.word(),
                "began": seconds(timing.began),
                "seconds": seconds(timing.duration),
                "states": timing.states.iter().map(state_event).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "event": "timings", "steps": steps, "seconds": seconds(total) })
}

fn state_event(state: &State) -> Value {
    json!({"what": state.what, "began": seconds(state.began), "seconds": seconds(state.duration)})
}

/// Seconds with milliseconds, as events give them.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// A duration for people: `2.1s`, `1m 02s`.
pub(super) fn human(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 60 { format!("{:.1}s", duration.as_secs_f64()) } else { format!("{}m {:02}s", whole / 60, whole % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(human(Duration::from_millis(2130)), "2.1s");
        assert_eq!(human(Duration::from_secs(62)), "1m 02s");
    }

    #[test]
    fn the_table_has_one_row_per_step() {
        let timing = |name: &str, began, duration, outcome| Timing {
            name: name.to_owned(),
            began: Duration::from_millis(began),
            duration: Duration::from_millis(duration),
            outcome,
            states: Vec::new(),
        };
        let mut timings = [timing("Planning", 0, 10, Outcome::Finished), timing("Booting", 12, 4300, Outcome::Failed)];
        assert_eq!(
            table(&timings, Duration::from_millis(4320)),
            "   began     took  step\n   0.00s    0.01s  Planning\n   0.01s    4.30s  Booting (failed)\n            4.32s  total\n"
        );
        assert_eq!(event(&timings, Duration::from_secs(5))["steps"][1]["seconds"], 4.3);
        timings[1].states = vec![state("a: creating", 20, 300)];
        assert!(table(&timings, Duration::from_secs(5)).contains("(failed)\n   0.02s    0.30s    a: creating\n"));
        assert_eq!(event(&timings, Duration::from_secs(5))["steps"][1]["states"][0]["what"], "a: creating");
    }

    fn state(what: &str, began: u64, duration: u64) -> State {
        let (began, duration) = (Duration::from_millis(began), Duration::from_millis(duration));
        State { what: what.to_owned(), began, duration }
    }

    #[test]
    fn only_the_longest_states_are_shown_in_their_order() {
        let all = (0..9).map(|number| state(&number.to_string(), 1000 - number, 95 + number)).collect();
        let shown: Vec<String> = longest(all).into_iter().map(|state| state.what).collect();
        assert_eq!(shown, ["8", "7", "6", "5"]);
        let long = (0..9).map(|number| state(&number.to_string(), number, 200 + number)).collect();
        assert_eq!(longest(long).len(), MAX_STATES);
    }
}
