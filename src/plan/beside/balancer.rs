//! The load balancer in front of several control planes. Pure.

use std::fmt::Write as _;

use crate::plan::layout::{API_PORT, Layout, api_endpoint};

/// HAProxy's configuration file in the load balancer.
pub const CONFIG: &str = "/etc/haproxy/haproxy.cfg";

/// HAProxy's configuration: TCP to every control plane whose API says that it is ready.
pub fn configuration(layout: &Layout) -> String {
    // Host ports lead to the container's IPv4 address, also where nodes call it by IPv6.
    let bind = if layout.has_ipv6() { format!("bind :::{API_PORT} v4v6") } else { format!("bind :{API_PORT}") };
    let mut text = format!(
        "global\n  maxconn 4096\n  log stdout format raw local0 notice\n\n\
         defaults\n  mode tcp\n  log global\n  option redispatch\n  retries 3\n  timeout connect 2s\n  timeout client 24h\n  timeout server 24h\n  timeout check 2s\n\n\
         frontend api\n  {bind}\n  default_backend control-planes\n\n\
         backend control-planes\n  balance roundrobin\n  option httpchk GET /readyz\n  http-check expect status 200\n  \
         default-server check check-ssl verify none inter 500ms fall 3 rise 1 on-marked-down shutdown-sessions\n"
    );
    for plane in layout.control_planes() {
        let _ = writeln!(text, "  server {} {}", plane.name, api_endpoint(plane.address));
    }
    text
}
