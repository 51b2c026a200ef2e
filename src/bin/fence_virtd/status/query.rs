//! Queries over the status socket.

use super::form::{Form, HistoryForm};

/// First line of the reply with a status, if there are no problems.
pub(crate) const WELL: &str = "well";
/// First line of the reply with a status, if there are problems, and of a refusal.
pub(crate) const UNWELL: &str = "unwell";
/// First line of the reply with a history.
pub(crate) const HISTORY: &str = "history";

/// Query: one line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Query {
    /// The state of the daemon.
    Status(Form),
    /// The last power operations, of one VM if it is named.
    History { form: HistoryForm, vm: Option<String> },
}

impl Query {
    /// Returns the line of the query, without its line feed.
    pub(crate) fn line(&self) -> String {
        match self {
            Query::Status(form) => form.word().to_owned(),
            Query::History { form, vm: None } => format!("{HISTORY} {}", form.word()),
            Query::History { form, vm: Some(vm) } => format!("{HISTORY} {} {vm}", form.word()),
        }
    }

    /// Parses a line; none if it is not a query.
    pub(super) fn parse(line: &str) -> Option<Query> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let Some(history) = line.strip_prefix(HISTORY) else { return Form::of_word(line).map(Query::Status) };
        let history = history.strip_prefix(' ')?;
        let (word, vm) = history.split_once(' ').map_or((history, None), |(word, vm)| (word, Some(vm)));
        Some(Query::History { form: HistoryForm::of_word(word)?, vm: vm.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_arrives() {
        let history = |form, vm: Option<&str>| Query::History { form, vm: vm.map(str::to_owned) };
        for query in [
            Query::Status(Form::Text),
            Query::Status(Form::OpenMetrics),
            history(HistoryForm::Text, None),
            history(HistoryForm::Json, Some("node 1")),
        ] {
            assert_eq!(Query::parse(&format!("{}\n", query.line())), Some(query));
        }
        for wrong in
            ["", "\n", "texts", "history", "history ", "historytext", "history xml", "history openmetrics"]
        {
            assert_eq!(Query::parse(wrong), None, "{wrong:?}");
        }
    }
}
