//! URIs of this host, as opposed to those of other hosts.

use fence_virt::config::SerialConfig;

/// The serial listener's own URI, or else those of the backend.
fn uris_of_lines<'a>(config: &'a SerialConfig, backend: &'a [String]) -> &'a [String] {
    config.uri.as_ref().map_or(backend, std::slice::from_ref)
}

/// URIs of this host whose VMs the serial listener serves.
pub(crate) fn local_uris<'a>(
    config: &'a SerialConfig,
    backend: &'a [String],
) -> impl Iterator<Item = &'a String> {
    uris_of_lines(config, backend).iter().filter(|uri| is_local(uri))
}

/// Warnings about URIs whose VMs the serial listener cannot serve.
pub(crate) fn warn_of_remote(config: &SerialConfig, backend: &[String]) -> Vec<String> {
    let remote = uris_of_lines(config, backend).iter().filter(|uri| !is_local(uri));
    remote.map(|uri| format!("{uri} is on another host: cannot connect to the sockets of its VMs")).collect()
}

/// True if a URI is one of this host: `driver[+transport]://[user@][host][:port]/..`,
/// see <https://libvirt.org/uri.html>. A tunnel without a host name goes unnoticed.
pub(super) fn is_local(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once("://") else { return true };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    host.is_empty() || scheme.ends_with("+unix") || matches!(host, "localhost" | "127.0.0.1" | "::1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_with_another_host_is_not_local() {
        for local in [
            "qemu:///system",
            "test:///default",
            "test+unix:///default?socket=/run/x@y",
            "qemu+unix:///session",
            "qemu+unix://anything/system",
            "qemu+tcp://localhost/system",
            "qemu+ssh://root@127.0.0.1:2222/system",
            "qemu+tls://[::1]/system",
            "xen",
        ] {
            assert!(is_local(local), "{local}");
        }
        for remote in [
            "qemu://other/system",
            "qemu+ssh://root@other/system",
            "qemu+tcp://192.0.2.1:16509/system",
            "qemu+tls://[2001:db8::1]/system",
            "test+libssh2://user@other/default?socket=/x",
        ] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
