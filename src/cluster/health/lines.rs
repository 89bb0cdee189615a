//! The lines of a log that say why something failed. Pure.

/// Lines of a log that are shown.
pub(super) const MAX_LINES: usize = 12;
/// Longest line that is shown, in characters.
const MAX_LENGTH: usize = 400;

/// The lines that name an error, else the last ones; each once, without the usage text that follows a wrong flag.
pub(super) fn relevant_lines(log: &str) -> Vec<String> {
    let words = ["error", "fatal", "panic", "unknown flag", "not defined", "invalid", "failed"];
    let is_relevant = |line: &&str| {
        let lower = line.to_lowercase();
        let usage = line.starts_with(char::is_whitespace);
        // From systemd, and only that the unit failed, which is known.
        let known = line.starts_with("kubelet.service: ");
        !usage && !known && words.iter().any(|word| lower.contains(word))
    };
    let relevant: Vec<String> = log.lines().filter(is_relevant).map(str::to_owned).collect();
    let chosen = if relevant.is_empty() { last_lines(log, MAX_LINES) } else { relevant };
    let mut unique: Vec<String> = Vec::new();
    for line in chosen {
        let line: String = line.trim_end().chars().take(MAX_LENGTH).collect();
        if !unique.iter().any(|known| without_time(known) == without_time(&line)) {
            unique.push(line);
        }
    }
    let skip = unique.len().saturating_sub(MAX_LINES);
    unique.into_iter().skip(skip).collect()
}

/// A line without klog's date, time and process, which differ between equal messages.
fn without_time(line: &str) -> &str {
    let mut start = line.chars();
    let klog = start.next().is_some_and(|letter| "IWEF".contains(letter))
        && start.by_ref().take(4).filter(char::is_ascii_digit).count() == 4;
    if klog { line.split_once(']').map_or(line, |(_, text)| text) } else { line }
}

/// When a line of klog was written, as a number that grows within a year: month, day, time of day.
pub(super) fn klog_time(line: &str) -> Option<u64> {
    let (_, rest) = line.split_at_checked(1).filter(|(letter, _)| "IWEF".contains(letter))?;
    let mut words = rest.split_whitespace();
    let (day, time) = (words.next()?, words.next()?);
    format!("{day}{}", time.replace([':', '.'], "")).parse().ok()
}

/// The last lines that are not empty.
pub(super) fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| line.trim_end().to_owned()).collect()
}

/// An exit code, with what it means where that is not known to everyone.
pub(super) fn code(code: i64) -> String {
    match code {
        137 => "137, which is SIGKILL: the kernel, when memory is short (`dmesg` shows it), or a person".to_owned(),
        129..=192 => format!("{code}, which is signal {}", code - 128),
        _ => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_klog_have_an_order() {
        let [early, late] = ["E1129 09:22:00.038948     116 a", "I1129 09:22:06.454850     116 b"].map(klog_time);
        assert!(early.is_some() && early < late);
        assert_eq!(klog_time("panic: 1"), None);
    }

    #[test]
    fn the_line_that_names_the_error_is_found_in_a_usage_text() {
        let log = "Error: unknown flag: --nonsense\nUsage:\n  kube-apiserver [flags]\n      --error-thing  a flag\n";
        assert_eq!(relevant_lines(log), ["Error: unknown flag: --nonsense"]);
    }

    #[test]
    fn etcds_usage_is_left_out_too() {
        let log =
            "flag provided but not defined: -no-such-flag\nUsage:\n\n  etcd [flags]\n    Start an etcd server. error\n";
        assert_eq!(relevant_lines(log), ["flag provided but not defined: -no-such-flag"]);
    }

    #[test]
    fn a_message_of_every_start_is_shown_once() {
        let log = "E1121 11:02:32.118564      67 run.go:72] \"command failed\" err=\"maxPods\"\n\
                   kubelet.service: Failed with result 'exit-code'.\n\
                   E1121 11:02:33.710645      74 run.go:72] \"command failed\" err=\"maxPods\"\n";
        assert_eq!(
            relevant_lines(log),
            ["E1121 11:02:32.118564      67 run.go:72] \"command failed\" err=\"maxPods\""]
        );
    }
}
