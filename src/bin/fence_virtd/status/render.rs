//! Rendering of a snapshot and its judgement.

use super::form::Form;
use super::judgement::Judgement;
use super::openmetrics::openmetrics;
use super::report_json::report_json;
use super::snapshot::Snapshot;
use super::text::{Counters, text};

/// Returns the report in a format.
pub(super) fn render(snapshot: &Snapshot, judgement: &Judgement, form: Form) -> String {
    match form {
        Form::Text => text(snapshot, judgement, Counters::Lines),
        Form::Table => text(snapshot, judgement, Counters::Table),
        Form::Json => report_json(snapshot, judgement),
        Form::OpenMetrics => openmetrics(snapshot, judgement),
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
