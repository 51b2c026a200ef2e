//! Output formats of reports.

/// Output format of a status report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Plain text for people, with counters in lines that a script may search.
    Text,
    /// Plain text with a table of the counters, for a terminal.
    Table,
    /// One JSON object.
    Json,
    /// OpenMetrics 1.0, for a node exporter's textfile collector.
    OpenMetrics,
}

impl Form {
    /// Returns the word that selects this format in a query.
    pub(super) fn word(self) -> &'static str {
        match self {
            Form::Text => "text",
            Form::Table => "table",
            Form::Json => "json",
            Form::OpenMetrics => "openmetrics",
        }
    }

    /// Returns the format that a query's word selects.
    pub(super) fn of_word(word: &str) -> Option<Form> {
        [Form::Text, Form::Table, Form::Json, Form::OpenMetrics].into_iter().find(|form| form.word() == word)
    }
}

/// Output format of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistoryForm {
    /// Table for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl HistoryForm {
    /// Returns the word that selects this format in a query.
    pub(super) fn word(self) -> &'static str {
        match self {
            HistoryForm::Text => "text",
            HistoryForm::Json => "json",
        }
    }

    /// Returns the format that a query's word selects.
    pub(super) fn of_word(word: &str) -> Option<HistoryForm> {
        [HistoryForm::Text, HistoryForm::Json].into_iter().find(|form| form.word() == word)
    }
}
