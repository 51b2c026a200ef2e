use std::io;

/// Returns the text of an error without the number that the standard library appends: `(os error 2)` helps nobody.
pub fn error_text(error: &io::Error) -> String {
    let mut text = error.to_string();
    if error.raw_os_error().is_some() {
        text.truncate(text.rfind(" (os error ").unwrap_or(text.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_goes_and_the_rest_stays() {
        assert_eq!(error_text(&io::Error::from_raw_os_error(libc::ENOENT)), "No such file or directory");
        let ours = io::Error::other("line 3 (os error 2)");
        assert_eq!(error_text(&ours), "line 3 (os error 2)", "this is no text of the system");
        assert_eq!(error_text(&io::ErrorKind::TimedOut.into()), "timed out");
    }
}
