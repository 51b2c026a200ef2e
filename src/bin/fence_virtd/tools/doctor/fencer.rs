//! State of pacemaker's fencer on this host.

use std::thread;

use crate::tools::finding::Finding;
use crate::tools::service_reply::{NoReply, REPLY_TIMEOUT, ServiceReply};
use fence_virt::config::CpgConfig;
use fence_virt::sys::error_text;
use fence_virt::sys::stonith::{FencerHandle, FencerLibrary};

const ABOUT: &str = "backend cpg";
/// Stack size for libqb, in bytes.
const STACK_SIZE: usize = 4 << 20;

/// State of the fencer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FencerReport {
    /// It answers; the name of its library.
    Answers(String),
    /// Its library cannot be used, for this reason.
    NoLibrary(String),
}

/// Connects to the fencer. Blocks while it hangs.
pub(super) fn query() -> Result<FencerReport, String> {
    let builder = thread::Builder::new().stack_size(STACK_SIZE);
    let thread =
        builder.spawn(ask).map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
    thread.join().unwrap_or_else(|_| Err("its thread panicked".to_owned()))
}

fn ask() -> Result<FencerReport, String> {
    let library = match FencerLibrary::open() {
        Ok(library) => library,
        Err(error) => return Ok(FencerReport::NoLibrary(error.to_string())),
    };
    FencerHandle::connect(&library, c"fence_virtd")?;
    Ok(FencerReport::Answers(library.file().to_owned()))
}

pub(super) fn judge(config: &CpgConfig, reply: &ServiceReply<FencerReport>) -> Finding {
    let what = match reply {
        Ok(FencerReport::Answers(library)) => {
            let text = format!(
                "pacemaker's fencer answers ({library}): a lost host counts as off once it has fenced that host"
            );
            return Finding::ok(ABOUT, text);
        }
        Ok(FencerReport::NoLibrary(reason)) => {
            let remedy = "this is as it should be if the hosts do not run pacemaker; else install it on each";
            return Finding::note(ABOUT, format!("no fence of a host is known: {reason}"), remedy);
        }
        Err(NoReply::Failed(reason)) => format!("no fence of a host is known: {reason}"),
        Err(NoReply::TimedOut) => {
            format!(
                "no fence of a host is known: the fencer does not answer within {} s",
                REPLY_TIMEOUT.as_secs()
            )
        }
    };
    let remedy = "run `systemctl start pacemaker` on each host; if they do not run pacemaker, set \
                  host_fencing = \"none\"";
    match config.host_fence_delay {
        None => Finding::warning(ABOUT, what, remedy),
        Some(_) => Finding::note(ABOUT, what, remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::{Level, shown};
    use fence_virt::config::{HostFencing, UnknownVm};

    fn judged(delay: Option<u32>, reply: ServiceReply<FencerReport>) -> (Level, String) {
        let config = CpgConfig {
            uris: vec!["u".to_owned()],
            name_mode: None,
            host_fence_delay: delay,
            host_fencing: HostFencing::Auto,
            unknown_vm: UnknownVm::Fail,
        };
        shown(vec![judge(&config, &reply)]).remove(0)
    }

    #[test]
    fn a_fencer_that_answers_and_one_that_does_not() {
        let (level, text) = judged(None, Ok(FencerReport::Answers("libstonithd.so.26.8.2".to_owned())));
        assert!(level == Level::Ok && text.contains("answers (libstonithd.so.26.8.2)"), "{text}");
        let missing = || Ok(FencerReport::NoLibrary("none here".to_owned()));
        assert_eq!([judged(None, missing()).0, judged(Some(60), missing()).0], [Level::Note; 2]);
        let (level, text) = judged(None, Err(NoReply::Failed("it does not run".to_owned())));
        assert!(level == Level::Warning && text.contains("it does not run"), "{text}");
        let (level, text) = judged(Some(60), Err(NoReply::TimedOut));
        assert!(level == Level::Note && text.contains("within 5 s"), "{text}");
    }
}
