//! What the API server says of itself.

use crate::kubernetes::{Client, Failure};

/// The state of an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Api {
    Ready,
    /// It answers, and says that something of it does not work.
    Unready(String),
    /// No answer comes from it.
    Silent(String),
}

/// Asks the API server whether it is ready.
pub(super) async fn ask(client: &Client) -> Api {
    match client.get("/readyz").await {
        Ok(_) => Api::Ready,
        Err(failure) => of(&failure),
    }
}

fn of(failure: &Failure) -> Api {
    match failure {
        Failure::Status(_, _, text) => Api::Unready(match failed_checks(text).as_slice() {
            // Authorization is loaded some seconds after the port is open, and until then the administrator may nothing.
            [] if text.contains("forbidden") => "it is starting and has not loaded its roles yet".to_owned(),
            [] => text.lines().next().unwrap_or("it gives no reason").to_owned(),
            checks => format!("{} {} not work", checks.join(", "), if checks.len() == 1 { "does" } else { "do" }),
        }),
        Failure::Transport(text) | Failure::Lost(text) => Api::Silent(text.clone()),
    }
}

/// The names of the checks that failed, in the answer of a health endpoint.
pub(super) fn failed_checks(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("[-]")?.split_whitespace().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_ok_is_told_with_what_failed() {
        let status = |text: &str| of(&Failure::Status(500, String::new(), text.to_owned()));
        let body = "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]etcd-readiness failed: reason withheld\n\
                    readyz check failed\n";
        assert_eq!(status(body), Api::Unready("etcd, etcd-readiness do not work".to_owned()));
        assert_eq!(status("broken\nmore"), Api::Unready("broken".to_owned()));
        assert!(matches!(status("nodes is forbidden: User"), Api::Unready(cause) if cause.contains("starting")));
        let silent = of(&Failure::Transport("connection refused".to_owned()));
        assert_eq!(silent, Api::Silent("connection refused".to_owned()));
    }
}
