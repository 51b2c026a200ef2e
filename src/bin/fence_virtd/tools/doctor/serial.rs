//! Checks for a serial listener.

use super::ask::LinesAt;
use super::libvirt::{self, UriReply};
use crate::tools::finding::Finding;
use crate::watch;
use fence_virt::config::{NamedListener, SerialConfig, SerialMode};
use fence_virt::fence::ListenerName;

/// Checks a listener without libvirt.
pub(super) fn examine(listener: &NamedListener, config: &SerialConfig, uris: &[String]) -> Vec<Finding> {
    let name = &listener.name;
    let mut findings = Vec::new();
    if let Some(path) = &config.path {
        findings.push(judge_directory(name, &path.display().to_string(), path.is_dir()));
    }
    for warning in watch::warn_of_remote(config, uris) {
        let remedy = "set `uri` of the serial section to a libvirt of this host";
        findings.push(Finding::warning(name, warning, remedy));
    }
    findings
}

fn judge_directory(name: &ListenerName, path: &str, is_there: bool) -> Finding {
    if is_there {
        return Finding::ok(name, format!("directory {path} exists"));
    }
    let what = format!("directory {path} does not exist, so no VM can have a socket in it");
    let remedy = format!(
        "create it (`mkdir -p {path}`), owned by QEMU's user, or correct `path` in the serial section"
    );
    Finding::warning(name, what, remedy)
}

/// Judges the lines at each URI. A URI that does not reply to the backend either is reported only there.
pub(super) fn judge_lines(lines: &[LinesAt], backend: &[UriReply]) -> Vec<Finding> {
    let is_reported = |at: &LinesAt| {
        at.lines.is_err() && backend.iter().any(|(uri, reply)| *uri == at.at.uri && reply.is_err())
    };
    lines.iter().filter(|at| !is_reported(at)).map(judge_at).collect()
}

fn judge_at(LinesAt { at, lines }: &LinesAt) -> Finding {
    let (element, kind) = match at.config.mode {
        SerialMode::Serial => ("serial", "serial port"),
        SerialMode::VmChannel => ("channel", "channel"),
    };
    let lines = match lines {
        Ok(lines) => lines,
        Err(why) => return libvirt::unanswered(&at.listener, &at.uri, why),
    };
    let place = at.config.path.as_ref().map_or(String::new(), |path| format!(" in {}", path.display()));
    let what = format!(
        "{}: running VMs: {}, with a {kind} (type unix, mode bind){place}: {}",
        at.uri, lines.running, lines.with_socket
    );
    if lines.running == 0 || lines.with_socket > 0 {
        return Finding::ok(&at.listener, what);
    }
    let remedy = format!(
        "give the VMs a <{element} type='unix'> with a source of mode='bind' and a path{place} (XML in docs/listeners); `mode` and `path` of the serial section select the sockets"
    );
    Finding::warning(&at.listener, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::ask::SerialUri;
    use crate::tools::doctor::libvirt::ListedVm;
    use crate::tools::finding::Level;
    use crate::tools::service_reply::{NoReply, ServiceReply};
    use crate::watch::LineCounts;

    fn told(lines: ServiceReply<LineCounts>, backend: ServiceReply<Vec<ListedVm>>) -> Vec<Finding> {
        let config = SerialConfig { uri: None, path: Some("/s".into()), mode: SerialMode::VmChannel };
        let listener = ListenerName::new("serial", None);
        let uri = "test:///x".to_owned();
        let at = SerialUri { listener, config, uri: uri.clone() };
        judge_lines(&[LinesAt { at, lines }], &[(uri, backend)])
    }

    fn judged(lines: ServiceReply<LineCounts>) -> Finding {
        told(lines, Ok(Vec::new())).remove(0)
    }

    #[test]
    fn vms_without_a_socket_cause_a_warning() {
        assert_eq!(judged(Ok(LineCounts { running: 3, with_socket: 2 })).level, Level::Ok);
        assert_eq!(judged(Ok(LineCounts { running: 0, with_socket: 0 })).level, Level::Ok);
        let found = judged(Ok(LineCounts { running: 3, with_socket: 0 }));
        assert_eq!(found.level, Level::Warning);
        let remedy = found.remedy.unwrap();
        assert!(remedy.contains("<channel type='unix'>") && remedy.contains("in /s"), "{remedy}");
        assert_eq!(judged(Err(NoReply::TimedOut)).level, Level::Error);
        assert!(told(Err(NoReply::TimedOut), Err(NoReply::TimedOut)).is_empty(), "reported for the backend");
    }

    #[test]
    fn a_missing_directory_causes_a_warning() {
        let name = ListenerName::new("serial", None);
        assert_eq!(judge_directory(&name, "/s", true).level, Level::Ok);
        let found = judge_directory(&name, "/s", false);
        assert!(found.level == Level::Warning && found.remedy.unwrap().contains("mkdir -p /s"));
    }
}
