//! Starts the controller manager once the API server is healthy.
//!
//! The controller manager itself waits for ten seconds, and ends. The kubelet then starts it again after pauses that double:
//! on a slow machine these add minutes to the start of a cluster. Its code is not changed: this program has its name in the
//! image, waits, and becomes it.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use http::Request;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::log::{self, Failures};

/// The name by which this program is called for it.
pub(crate) const NAME: &str = "kube-controller-manager";
/// The component itself, under its own name, by which the kernel lists it.
const PROGRAM: &str = "/usr/local/lib/kubernetes/kube-controller-manager";
const INTERVAL: Duration = Duration::from_millis(50);
/// How long an answer may take: a server that is only starting may leave a request without one, and one on a busy machine
/// is slow, so the time doubles.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
const LAST_TIMEOUT: Duration = Duration::from_secs(16);

/// Waits and becomes the component; returns only if that is impossible, or after a signal.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    if let Some(path) = kubeconfig(arguments) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime.map(|runtime| runtime.block_on(wait(path))) {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return ExitCode::SUCCESS,
            // The component knows better than this program what is wrong.
            Ok(Err(error)) => log::line(format_args!("cannot wait for the API server: {error}")),
            Err(error) => log::line(format_args!("cannot wait for the API server: {error}")),
        }
    }
    let error = Command::new(PROGRAM).arg0(NAME).args(arguments).exec();
    log::line(format_args!("cannot run `{PROGRAM}`: {error}"));
    ExitCode::FAILURE
}

/// The file that the component is told to reach the API server with; none if it is only asked for its help or version.
fn kubeconfig(arguments: &[String]) -> Option<&str> {
    arguments.iter().find_map(|argument| argument.trim_start_matches('-').strip_prefix("kubeconfig="))
}

/// Waits until the API server is healthy: true then, false after a signal.
async fn wait(path: &str) -> Result<bool, String> {
    let config = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let client = config.map_err(|error| error.to_string()).and_then(|mut config| {
        config.default_retry = false;
        Client::try_from(config).map_err(|error| error.to_string())
    })?;
    // The first process of a container gets no signal that it does not handle.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    tokio::select! {
        _ = terminate.recv() => Ok(false),
        () = healthy(&client) => Ok(true),
    }
}

async fn healthy(client: &Client) {
    let mut failures = Failures::default();
    let mut patience = FIRST_TIMEOUT;
    loop {
        // Without its roles, which the API server makes in its first seconds, it forbids even this.
        let request = Request::get("/healthz").body(Vec::new());
        let Ok(request) = request else { return };
        match timeout(patience, client.request_text(request)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => failures.report(format!("waiting for the API server: {error}")),
            Err(_) => {
                failures.report("waiting for the API server: no answer".to_owned());
                patience = (patience * 2).min(LAST_TIMEOUT);
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Whether the program was called by the component's name.
pub(crate) fn is_called(program: Option<&str>) -> bool {
    program.and_then(|program| program.rsplit('/').next()) == Some(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_only_where_the_component_is_going_to_run() {
        let arguments = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(kubeconfig(&arguments("--leader-elect=false --kubeconfig=/a.conf")), Some("/a.conf"));
        assert_eq!(kubeconfig(&arguments("--authentication-kubeconfig=/b.conf --help")), None);
        assert_eq!(kubeconfig(&arguments("--version")), None);
    }

    #[test]
    fn its_name_decides_what_it_is() {
        assert!(
            is_called(Some("kube-controller-manager")) && is_called(Some("/usr/local/bin/kube-controller-manager"))
        );
        assert!(!is_called(Some("/usr/local/bin/coracle-agent")) && !is_called(None));
    }
}
