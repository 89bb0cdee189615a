use super::*;
use crate::cluster::target;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, ExecOutput};
use crate::plan::labels;

const LISTED: &str = "unit kubelet.service loaded\nlog kube-system_coredns-x_1/coredns/0.log\n\
                      log kube-system_coredns-y_2/coredns/0.log\nlog kube-system_coredns-y_2/coredns/1.log\n";

fn answer(_: &str, command: &[&str], _: Vec<u8>) -> ExecOutput {
    let stdout = match *command {
        ["sh", ..] => LISTED.to_owned(),
        ["cat", _, file] if file.contains("coredns-x") => {
            "2026-01-01T00:00:01Z stdout F x1\n2026-01-01T00:00:03Z stdout F x3\n".to_owned()
        }
        ["cat", _, file] if file.ends_with("/1.log") => "2026-01-01T00:00:02Z stderr F y2\n".to_owned(),
        ["cat", ..] => "2025-01-01T00:00:00Z stderr F before\n".to_owned(),
        _ => panic!("{command:?}"),
    };
    ExecOutput { stdout: stdout.into(), ..ExecOutput::default() }
}

/// What is shown of a word, and the commands that were run for it.
async fn shown(container: &str, word: Option<&str>, options: Options) -> Result<(String, Vec<String>)> {
    let engine = FakeEngine::new(&["node"])
        .on_exec(answer)
        .on_converse(|_, command, _, output| output.write_all(command.last().unwrap().as_bytes()).unwrap());
    for (name, role) in [("dev-worker", "worker"), ("dev-load-balancer", "load-balancer"), ("dev-worker2", "worker")] {
        let labels = [(labels::CLUSTER, "dev"), (labels::ROLE, role)];
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        engine.create_container(&ContainerSpec { labels, ..ContainerSpec::new(name, "node") }).await?;
        if name != "dev-worker2" {
            engine.start_container(name).await?;
        }
    }
    let target = target::find(&engine, None, container).await?;
    let text = Mutex::new(Vec::new());
    let show = |bytes: &[u8]| {
        text.lock().unwrap().extend_from_slice(bytes);
        Ok(true)
    };
    read(&engine, &target, word, options, &show).await?;
    let opened = engine.transcript().into_iter().filter(|call| call.starts_with("open ")).collect();
    Ok((String::from_utf8(text.into_inner().unwrap()).unwrap(), opened))
}

#[tokio::test]
async fn without_a_word_the_journal_of_what_makes_a_node_is_shown() {
    let options = Options { since: Some(300), tail: Some(5), ..Options::default() };
    let (text, opened) = shown("dev-worker", None, options).await.unwrap();
    assert_eq!(text, "--lines=5");
    assert_eq!(
        opened,
        ["open dev-worker journalctl --no-pager --unit=kubelet --unit=containerd --since=-300s --lines=5"]
    );
    let (text, _) = shown("dev-worker", Some("kubelet"), Options { follow: true, ..Options::default() }).await.unwrap();
    assert_eq!(text, "--follow");
}

#[tokio::test]
async fn lines_of_several_containers_are_in_the_order_of_time() {
    let (text, _) = shown("dev-worker", Some("coredns"), Options::default()).await.unwrap();
    assert_eq!(text, "[coredns-x/coredns] x1\n[coredns-y/coredns] y2\n[coredns-x/coredns] x3\n");
    let last = Options { tail: Some(1), ..Options::default() };
    assert_eq!(shown("dev-worker", Some("coredns-x"), last).await.unwrap().0, "x3\n");
    let previous = Options { previous: true, ..Options::default() };
    assert_eq!(shown("dev-worker", Some("coredns-y"), previous).await.unwrap().0, "before\n");
    let error = shown("dev-worker", Some("coredns-x"), previous).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(error.message(), "`coredns-x/coredns` has started only once");
}

#[tokio::test]
async fn who_asks_for_a_log_that_cannot_be_had_is_told_why() {
    let code = async |container, word| shown(container, word, Options::default()).await.unwrap_err().code();
    assert_eq!(code("dev-worker", Some("corens")).await, Code::NotFound);
    assert_eq!(code("dev-worker2", None).await, Code::ClusterStopped);
    assert_eq!(code("dev-load-balancer", Some("kubelet")).await, Code::UsageInvalid);
    assert!(!shown("dev-load-balancer", None, Options::default()).await.unwrap().0.is_empty());
}
