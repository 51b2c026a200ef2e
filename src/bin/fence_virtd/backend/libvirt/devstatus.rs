use log::warn;

use super::resolve::Uri;
use crate::job::Job;
use crate::libvirt::Link;
use fence_virt::fence::{UriIndex, Verdict};
use fence_virt::time::Instant;

/// Probe of all URIs by their connection managers, for devstatus requests. The first
/// answer makes them a success.
pub(super) struct DevstatusProbe {
    jobs: Vec<Job>,
    pub(super) deadline: Instant,
    /// URIs that have not answered yet.
    waiting: Vec<UriIndex>,
    problems: Vec<String>,
    /// The first answer.
    answer: Option<String>,
}

impl DevstatusProbe {
    /// Requests the probes.
    pub(super) fn begin<L: Link>(uris: &[Uri<L>], job: Job, now: Instant) -> DevstatusProbe {
        for uri in uris {
            uri.link.probe();
        }
        let limit = uris.iter().map(|uri| uri.link.silence_max()).max().unwrap_or_default();
        DevstatusProbe {
            jobs: vec![job],
            deadline: now + limit,
            waiting: (0..uris.len()).map(UriIndex).collect(),
            problems: Vec::new(),
            answer: None,
        }
    }

    /// Adds a request. The probe began less than two seconds ago, so its result serves.
    pub(super) fn join(&mut self, job: Job) {
        match &self.answer {
            Some(answer) => job.finish(Verdict::Success, answer),
            None => self.jobs.push(job),
        }
    }

    /// Handles the result of one URI; returns true if it was the last.
    pub(super) fn probed(&mut self, uri: UriIndex, name: &str, outcome: Result<(), String>) -> bool {
        if !self.waiting.contains(&uri) {
            return false;
        }
        self.waiting.retain(|&waiting| waiting != uri);
        match outcome {
            Ok(()) => {
                let answer = format!("{name} answers");
                // The probe goes on, so that URIs that do not answer are logged.
                for job in self.jobs.drain(..) {
                    job.finish(Verdict::Success, &answer);
                }
                self.answer = Some(answer);
            }
            Err(reason) => self.problems.push(format!("{name}: {reason}")),
        }
        self.waiting.is_empty()
    }

    /// Ends the probe: fails the requests that are left.
    pub(super) fn end<L: Link>(mut self, uris: &[Uri<L>]) {
        for uri in &self.waiting {
            let link = &uris[uri.0].link;
            self.problems.push(format!(
                "{}: no answer within {} s",
                link.name(),
                link.silence_max().as_secs()
            ));
        }
        for problem in &self.problems {
            warn!("devstatus: {problem}");
        }
        let problems = self.problems.join(", ");
        for job in self.jobs {
            job.finish(Verdict::Failure, format_args!("the backend does not answer: {problems}"));
        }
    }
}
