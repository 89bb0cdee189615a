//! What works in a node: each of its components is asked, where its kubelet asks it, and the way to the API server is tried.

use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::oneshot::Sender;
use tokio::time::timeout;

use crate::cluster::health::api::failed_checks;
use crate::engine::files::run;
use crate::engine::{Engine, Said};
use crate::error::{Code, Error, Result};
use crate::kubeconfig;

/// Asks everything at once, and prints a line for each: its name, the HTTP status (000 for none), the error, and the checks
/// that failed. The values are separated by tabs, and the checks by vertical tabs. The units of systemd come first.
///
/// Behind a load balancer, a control plane that is cut off works for itself: whether it has a way out is asked of that one.
/// There are as few processes as possible: on a small machine, starting forty takes longer than all the answers.
///
/// With the argument `kubeconfig`, the administrator's kubeconfig comes before everything else, and after it a character 4.
const SCRIPT: &str = r#"
limit=3
[ "$1" != kubeconfig ] || { cat /etc/kubernetes/admin.conf; printf '\004'; }
set -- $(systemctl is-active containerd kubelet)
printf 'containerd\tunit\t%s\nkubelet\tunit\t%s\n' "$1" "$2"
printf 'disk\tdisk\t%s\n' "$(stat --file-system --format='%f %S %a %b' /var)"
set --
certificate=/etc/kubernetes/pki/apiserver.crt
if [ -e $certificate ]; then
  printf 'certificate\tcertificate\t'
  while read -r line; do printf '%s|' "$line"; done <$certificate
  echo
fi
for name in etcd kube-apiserver kube-controller-manager kube-scheduler; do
  [ -e /etc/kubernetes/admin.conf ] || break
  file=/etc/kubernetes/manifests/$name.yaml
  if [ -e $file ]; then set -- "$@" $file; else printf '%s\tabsent\n' $name; fi
done
for file in /etc/kubernetes/admin.conf /etc/kubernetes/kubelet.conf /var/lib/kubelet/config.yaml; do
  if [ -e $file ]; then set -- "$@" $file; fi
done
questions=$(awk '
  function flush(  host, url) {
    if (name != "") {
      host = at["host:"]
      if (host ~ /:/) host = "[" host "]"
      if (at["port:"] != "") url = tolower(at["scheme:"]) "://" host ":" at["port:"] at["path:"]
      if (name == "kube-apiserver") own = url
      print name, url
    }
    split("", at); name = ""; inside = 0
  }
  FNR == 1 {
    flush()
    if (FILENAME ~ /manifests/) { name = FILENAME; gsub(/^.*\/|\.yaml$/, "", name) }
  }
  name != "" && /(liveness|readiness)Probe:/ { inside = 1 }
  $1 == "periodSeconds:" { inside = 0 }
  inside && $1 ~ /^(host|path|port|scheme):$/ { gsub(/"/, "", $2); at[$1] = $2 }
  $1 == "healthzPort:" { port = $2 }
  FILENAME ~ /admin\.conf$/ && $1 == "server:" { front = $2 }
  FILENAME ~ /kubelet\.conf$/ && $1 == "server:" { api = $2 }
  END {
    flush()
    if (port != "0") print "kubelet", "http://127.0.0.1:" (port == "" ? 10248 : port) "/healthz"
    if (front == "" && api != "") print "api", api "/livez"
    if (own != "" && index(own, front "/") != 1) print "balancer", front
  }' "$@")
set --
count=0
front=
answers=/run/coracle-status.$$
mkdir $answers
while read -r name url; do
  if [ "$name" = balancer ]; then front=$url; continue; fi
  if [ -z "$url" ]; then printf '%s\tabsent\n' "$name"; continue; fi
  eval "name_$count=\$name"
  set -- "$@" --output $answers/$count "$url"
  count=$((count + 1))
done <<END
$questions
END
if [ -n "$front" ]; then
  address=${front#https://}
  host=${address%:*} port=${address##*:}
  host=${host#[}
  { timeout $limit bash -c "< /dev/tcp/${host%]}/$port" 2>/dev/null ||
    printf 'balancer\t000\tno connection to %s\n' "$address"; } &
fi
said=$(curl --parallel --parallel-immediate --insecure --max-time $limit \
  --write-out '%{urlnum} %{http_code} %{errormsg}\n' "$@" 2>/dev/null)
while read -r index code error; do
  checks=
  case $code in
    "") continue ;;
    000 | 200 | 401 | 403) ;;
    *) checks=$(grep '^\[-\]' $answers/$index | tr '\n\t' '\v ') ;;
  esac
  eval "name=\$name_$index"
  printf '%s\t%s\t%s\t%s\n' "$name" "$code" "$error" "$checks"
done <<END
$said
END
rm -r $answers
wait
"#;
/// What comes after a kubeconfig.
const END: u8 = 4;
/// How long a node may take for all answers; each of them may take three seconds, so that the health of a cluster is known
/// within five.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Free bytes below which nothing starts: ext4 counts 16 MiB as free that not even root can use.
const MIN_FREE: u64 = 24 * 1024 * 1024;
/// What a node's kubelet reaches only over the network.
const WAY: &str = "api";
/// What stands in front of several control planes, and is reached over the network too.
const BALANCER: &str = "balancer";
/// What everything of a node writes to.
const DISK: &str = "disk";
/// In the order in which they need each other.
const ORDER: [&str; 9] = [
    DISK,
    "containerd",
    "kubelet",
    BALANCER,
    "etcd",
    "kube-apiserver",
    WAY,
    "kube-controller-manager",
    "kube-scheduler",
];

/// Something of a node that does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its name, such as `etcd`.
    pub component: String,
    /// What is wrong with it, such as `does not answer`.
    pub what: &'static str,
    pub cause: String,
}

impl Fault {
    fn new(component: &str, what: &'static str, cause: impl Into<String>) -> Self {
        Self { component: component.to_owned(), what, cause: cause.into() }
    }

    /// Whether it is that the node does not reach the API server, or what stands in front of it, over the network.
    pub(super) fn is_of_the_way(&self) -> bool {
        [WAY, BALANCER].contains(&self.component.as_str())
    }

    /// What does not work, for people.
    pub(super) fn message(&self) -> String {
        if self.component == WAY {
            return "the API server cannot be reached from the node".to_owned();
        }
        if self.component == BALANCER {
            return "the load balancer cannot be reached from the node".to_owned();
        }
        if self.component == DISK {
            return "the engine's disk is full".to_owned();
        }
        // A unit has an article in the other messages about it.
        let article = if self.component == "kubelet" { "the " } else { "" };
        format!("{article}{} {}", self.component, self.what)
    }
}

/// Space where nodes have their files, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub free: u64,
    pub size: u64,
}

/// What a node said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// All that does not work, what others need first.
    pub faults: Vec<Fault>,
    /// The engine's disk.
    pub disk: Option<Disk>,
    /// When the certificate of its API server ends.
    pub certificate_ends: Option<OffsetDateTime>,
}

/// What works in a node, and what does not. An error if the node cannot be asked: then nothing is known.
pub(super) async fn ask(engine: &dyn Engine, node: &str) -> Result<Found> {
    ask_and_tell(engine, node, None).await
}

/// The same; of a control plane, the administrator's kubeconfig is sent on as soon as it has come.
pub(super) async fn ask_and_tell(
    engine: &dyn Engine,
    node: &str,
    kubeconfig: Option<Sender<Vec<u8>>>,
) -> Result<Found> {
    let failed = || Error::new(Code::NotReady, "the state of the node cannot be read").on_node(node);
    let ask = async {
        if let Some(kubeconfig) = kubeconfig
            && let Some(said) = listen(engine, node, kubeconfig).await.filter(|said| is_answer(said))
        {
            return Ok(said);
        }
        // It says why it fails, too.
        run(engine, node, &["sh", "-c", SCRIPT], None, failed()).await
    };
    let late = |_| failed().because(format!("no answer within {} s", TIMEOUT.as_secs()));
    let said = timeout(TIMEOUT, ask).await.map_err(late)??;
    // Silence is no sign of health.
    if !is_answer(&said) {
        return Err(failed().because("it gave no answer"));
    }
    let output = String::from_utf8_lossy(&said);
    let (disk, certificate_ends) = (output.lines().find_map(disk), output.lines().find_map(certificate));
    Ok(Found { faults: read(&output), disk, certificate_ends })
}

fn is_answer(said: &[u8]) -> bool {
    said.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"kubelet\t"))
}

/// Everything that a control plane says after its kubeconfig; `None` if it cannot be asked.
async fn listen(engine: &dyn Engine, node: &str, kubeconfig: Sender<Vec<u8>>) -> Option<Vec<u8>> {
    let mut conversation = engine.converse(node, &["sh", "-c", SCRIPT, "ask", "kubeconfig"]).await.ok()?;
    let (mut said, mut kubeconfig) = (Vec::new(), Some(kubeconfig));
    while let Some(part) = conversation.output.next().await {
        let Said::Output(bytes) = part.ok()? else { continue };
        said.extend_from_slice(&bytes);
        if kubeconfig.is_some()
            && let Some(end) = said.iter().position(|byte| *byte == END)
        {
            let rest = said.split_off(end + 1);
            said.truncate(end);
            // If it took too long, it has been read in another way.
            kubeconfig.take()?.send(std::mem::replace(&mut said, rest)).ok();
        }
    }
    Some(said)
}

fn read(output: &str) -> Vec<Fault> {
    let mut faults: Vec<Fault> = output.lines().filter_map(fault).collect();
    let place = |fault: &Fault| ORDER.iter().position(|name| *name == fault.component);
    faults.sort_by_key(place);
    // A unit that does not run does not answer either.
    faults.dedup_by(|next, kept| next.component == kept.component);
    faults
}

fn fault(line: &str) -> Option<Fault> {
    let mut fields = line.split('\t');
    let (name, kind) = (fields.next()?, fields.next()?);
    let (error, answer) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    match kind {
        "absent" => Some(Fault::new(name, "is missing", "its manifest in /etc/kubernetes/manifests is gone")),
        "disk" if is_full(error) => Some(Fault::new(name, "is full", "no space left on device")),
        "disk" | "certificate" => None,
        // Other states, such as `unknown`, are of a systemd that does not answer, which the questions below find out.
        "unit" => match error {
            "inactive" | "failed" => Some(Fault::new(name, "does not run", format!("its unit is {error}"))),
            "activating" => Some(Fault::new(name, "does not run", "systemd is starting it")),
            _ => None,
        },
        "000" => Some(Fault::new(name, "does not answer", error)),
        // The way is there, whatever it answers.
        _ if name == WAY => None,
        // Who may ask is a setting: the component works.
        "200" | "401" | "403" => None,
        code => {
            let answer = answer.replace('\u{b}', "\n");
            let checks = failed_checks(&answer).join(", ");
            let cause = if checks.is_empty() { format!("it answers with {code}") } else { format!("{checks} failed") };
            Some(Fault::new(name, "is not ready", cause))
        }
    }
}

/// The space that the line about the disk has: free blocks and their size, then what others than root may use, and all.
fn disk(line: &str) -> Option<Disk> {
    let words = line.strip_prefix("disk\tdisk\t")?.split_whitespace();
    let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    let [_, size, free, all] = numbers[..] else { return None };
    Some(Disk { free: free.saturating_mul(size), size: all.saturating_mul(size) })
}

/// When the certificate ends that a line has.
fn certificate(line: &str) -> Option<OffsetDateTime> {
    kubeconfig::valid_until(&line.strip_prefix("certificate\tcertificate\t")?.replace('|', "\n"))
}

/// Whether almost nothing is free, from the output of `stat`: free blocks and their size.
pub(super) fn is_full(output: &str) -> bool {
    let mut numbers = output.split_whitespace().map_while(|word| word.parse::<u64>().ok());
    let free = numbers.next().zip(numbers.next()).map(|(blocks, size)| blocks.saturating_mul(size));
    free.is_some_and(|free| free < MIN_FREE)
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
