//! Whether a serial listener would find lines.

use super::ask::{LinesAt, Reply};
use super::finding::{Finding, Level};
use super::libvirt::{self, Vm};
use crate::problem::Flaw;
use crate::watch;
use fence_virt::config::{NamedListener, SerialConfig, SerialMode};
use fence_virt::fence::ListenerName;

/// What can be seen without libvirt.
pub(super) fn examine(listener: &NamedListener, config: &SerialConfig, uris: &[String]) -> Vec<Finding> {
    let name = &listener.name;
    let mut findings = Vec::new();
    if let Some(path) = &config.path {
        findings.push(judge_folder(name, &path.display().to_string(), path.is_dir()));
    }
    for warning in watch::warn_of_remote(config, uris) {
        let remedy = "name a libvirt of this host in `uri` of the section serial";
        findings.push(Finding::of(Level::Warning, name, Flaw::new(warning, remedy)));
    }
    findings
}

fn judge_folder(name: &ListenerName, path: &str, is_there: bool) -> Finding {
    match is_there {
        true => Finding::ok(name, format!("the folder {path} is there")),
        false => {
            let what = format!("there is no folder {path}: no socket of a VM can be in it");
            let remedy = format!(
                "`mkdir -p {path}`, owned by the user that QEMU runs as; or correct `path` in the section serial"
            );
            Finding::warning(name, what, remedy)
        }
    }
}

/// What libvirt says of the lines at each URI. One that gives no answer to the
/// backend either is not told twice.
pub(super) fn judge_lines(lines: &[LinesAt], backend: &[(String, Reply<Vec<Vm>>)]) -> Vec<Finding> {
    let is_told = |at: &LinesAt| {
        at.lines.is_err() && backend.iter().any(|(uri, reply)| *uri == at.uri && reply.is_err())
    };
    lines.iter().filter(|at| !is_told(at)).map(judge_at).collect()
}

fn judge_at(at: &LinesAt) -> Finding {
    let kind = match at.config.mode {
        SerialMode::Serial => "serial port",
        SerialMode::VmChannel => "channel",
    };
    let lines = match &at.lines {
        Ok(lines) => lines,
        Err(why) => return libvirt::unanswered(&at.listener, &at.uri, why),
    };
    let place = at.config.path.as_ref().map_or(String::new(), |path| format!(" in {}", path.display()));
    let what = format!(
        "{}; running VMs: {}, those with a {kind} (type unix, mode bind){place}: {}",
        at.uri, lines.running, lines.with_socket
    );
    match (lines.running, lines.with_socket) {
        (1.., 0) => {
            let element = if at.config.mode == SerialMode::Serial { "serial" } else { "channel" };
            let remedy = format!(
                "give the VMs a <{element} type='unix'> whose source has mode='bind' and a path{place}: docs/listeners has the XML; `mode` and `path` of the section serial choose which count"
            );
            Finding::warning(&at.listener, what, remedy)
        }
        _ => Finding::ok(&at.listener, what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::ask::Unanswered;
    use crate::watch::Lines;

    fn told(lines: Reply<Lines>, backend: Reply<Vec<Vm>>) -> Vec<Finding> {
        let config = SerialConfig { uri: None, path: Some("/s".into()), mode: SerialMode::VmChannel };
        let listener = ListenerName::new("serial", None);
        let uri = "test:///x".to_owned();
        judge_lines(&[LinesAt { listener, config, uri: uri.clone(), lines }], &[(uri, backend)])
    }

    fn judged(lines: Reply<Lines>) -> Finding {
        told(lines, Ok(Vec::new())).remove(0)
    }

    #[test]
    fn vms_without_a_socket_are_warned_of() {
        assert_eq!(judged(Ok(Lines { running: 3, with_socket: 2 })).level, Level::Ok);
        assert_eq!(judged(Ok(Lines { running: 0, with_socket: 0 })).level, Level::Ok);
        let found = judged(Ok(Lines { running: 3, with_socket: 0 }));
        assert_eq!(found.level, Level::Warning);
        let remedy = found.remedy.unwrap();
        assert!(remedy.contains("<channel type='unix'>") && remedy.contains("in /s"), "{remedy}");
        assert_eq!(judged(Err(Unanswered::Silent)).level, Level::Error);
        assert!(told(Err(Unanswered::Silent), Err(Unanswered::Silent)).is_empty(), "the backend tells");
    }

    #[test]
    fn a_missing_folder_is_warned_of() {
        let name = ListenerName::new("serial", None);
        assert_eq!(judge_folder(&name, "/s", true).level, Level::Ok);
        let found = judge_folder(&name, "/s", false);
        assert!(found.level == Level::Warning && found.remedy.unwrap().contains("mkdir -p /s"));
    }
}
