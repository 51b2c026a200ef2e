//! Secrets of an agent, which must not reach the log or a client.

use super::input::AgentOption;

/// Words in the names of options whose values are secrets.
const WORDS: [&str; 5] = ["pass", "secret", "token", "key", "community"];

/// Length, in bytes, below which a value is not replaced: it would be part of any sentence.
const SHORTEST: usize = 3;

/// Length from which its Base64 is replaced, too.
const LONG: usize = 6;

/// Values that are replaced in what an agent prints.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Takes the values of the options that hold secrets, by their names.
    pub fn of(options: &[AgentOption]) -> Secrets {
        let secret = options.iter().filter(|option| Secrets::is_secret(&option.name));
        let mut values: Vec<String> = secret.map(|option| option.value.clone()).collect();
        values.retain(|value| value.len() >= SHORTEST);
        // One may contain another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Secrets(values)
    }

    /// True for the name of an option whose value is a secret.
    pub fn is_secret(option: &str) -> bool {
        let name = option.to_ascii_lowercase();
        WORDS.iter().any(|word| name.contains(word)) && !name.ends_with("script") && !name.ends_with("file")
    }

    /// Replaces the secrets in a text, as they are and as agents write them: quoted by Python or JSON, in a URL, in XML,
    /// in an HTTP header (Base64, at whatever position).
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.0 {
            for form in forms(value).iter().filter(|form| form.len() >= SHORTEST) {
                text = text.replace(form, "***");
            }
        }
        text
    }
}

/// Forms of a value; the longest ones are not part of others.
fn forms(value: &str) -> Vec<String> {
    let escaped = value.replace('\\', "\\\\");
    let mut forms = vec![
        value.to_owned(),
        percent_encoded(value),
        value.escape_default().to_string(),
        escaped.replace('\'', "\\'"),
        escaped.replace('"', "\\\""),
        value.replace('\'', "'\\''"),
        value.replace('\'', "'\"'\"'"),
        value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        escaped,
    ];
    // Few digits would be part of any text.
    let alignments = if value.len() < LONG { 0..0 } else { 0..3 };
    forms.extend(alignments.map(|before| base64_core(value.as_bytes(), before)));
    forms
}

/// Digits of Base64 that depend on these bytes alone, after this number of others.
fn base64_core(bytes: &[u8], before: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| bytes.get(at / 8).map(|byte| usize::from(byte >> (7 - at % 8) & 1));
    // The first digit that begins within the bytes, in bits from their begin.
    let first = (6 - before * 8 % 6) % 6;
    let digit = |at: usize| (at..at + 6).try_fold(0, |value, at| Some(value << 1 | bit(at)?));
    let digits = (first..).step_by(6).map_while(digit);
    digits.map(|digit| char::from(DIGITS[digit])).collect()
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_in_all_their_forms() {
        let options = ["ip=pve1", "password=p&w'1", "api_token=p&w'1-longer", "passwd=ab"];
        let secrets = Secrets::of(&options.map(|text| AgentOption::parse(text).unwrap()));
        assert_eq!(secrets.redact("login p&w'1 at pve1"), "login *** at pve1");
        assert_eq!(secrets.redact("password=p%26w%271&x"), "password=***&x");
        assert_eq!(secrets.redact(r"'p&w\'1'"), "'***'");
        assert_eq!(secrets.redact("p&w'1-longer"), "***", "the longer one first");
        assert_eq!(secrets.redact("tab"), "tab", "too short to tell");
    }

    #[test]
    fn secrets_in_other_clothes_are_replaced() {
        let secrets = Secrets::of(&[AgentOption::parse("password=a'b\"c\\d&e").unwrap()]);
        for text in
            [r#"a\'b"c\\d&e"#, r#"a'b\"c\\d&e"#, r#"a'\''b"c\d&e"#, "a'b\"c\\d&amp;e", "a%27b%22c%5Cd%26e"]
        {
            assert_eq!(secrets.redact(text), "***", "{text}");
        }
        // printf 'root:hunter2' | base64, and with shorter names.
        let secrets = Secrets::of(&[AgentOption::parse("passwd=hunter2").unwrap()]);
        for (text, rest) in [
            ("Basic cm9vdDpodW50ZXIy", "Basic cm9vdDp***"),
            ("cm9vOmh1bnRlcjI=", "cm9vOm***I="),
            ("cm86aHVudGVyMg==", "cm86***Mg=="),
        ] {
            let redacted = secrets.redact(text);
            assert!(redacted.contains("***") && redacted.len() <= rest.len(), "{redacted}");
        }
    }

    #[test]
    fn options_with_secrets_are_known_by_their_names() {
        for secret in ["password", "passwd", "api_token", "secret-key", "snmp_community", "Passphrase"] {
            assert!(Secrets::is_secret(secret), "{secret}");
        }
        for plain in ["ip", "username", "password_script", "identity_file", "plug"] {
            assert!(!Secrets::is_secret(plain), "{plain}");
        }
    }
}
