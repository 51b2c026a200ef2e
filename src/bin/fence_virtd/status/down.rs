//! Reports for a daemon that does not answer.

use super::form::Form;
use super::openmetrics::openmetrics_down;
use crate::json::{JsonObject, array, quoted};

/// Returns the report in a format; `reason` tells why there is no answer.
pub(crate) fn down(form: Form, reason: &str) -> String {
    match form {
        Form::Text | Form::Table => format!("ERROR    {reason}\n"),
        Form::Json => {
            JsonObject::new()
                .value("up", false)
                .value("well", false)
                .value("problems", array([quoted(reason)].into_iter()))
                .value("warnings", "[]")
                .finish()
                + "\n"
        }
        Form::OpenMetrics => openmetrics_down(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_has_a_report_in_each_format() {
        let reason = "no \"daemon\"";
        assert_eq!(down(Form::Table, reason), "ERROR    no \"daemon\"\n");
        let expected = "{\"up\":false,\"well\":false,\"problems\":[\"no \\\"daemon\\\"\"],\"warnings\":[]}\n";
        assert_eq!(down(Form::Json, reason), expected);
        let metrics = down(Form::OpenMetrics, reason);
        assert!(
            metrics.contains("fence_virtd_up 0\n") && metrics.contains("fence_virtd_well 0\n"),
            "{metrics}"
        );
        assert!(metrics.ends_with("# EOF\n"));
    }
}
