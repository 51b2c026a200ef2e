//! Secrets of an agent, which must not reach the log or a client.

use super::input::AgentOption;

/// Words in the names of options whose values are secrets.
const WORDS: [&str; 5] = ["pass", "secret", "token", "key", "community"];

/// Length, in bytes, below which a value is not replaced: it would be part of any sentence.
const SHORTEST: usize = 3;

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

    /// Replaces the secrets in a text, as they are and as a Python agent quotes or a URL encodes them.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.0 {
            for form in [value.clone(), percent_encoded(value), value.escape_default().to_string()] {
                text = text.replace(&form, "***");
            }
        }
        text
    }
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
    fn options_with_secrets_are_known_by_their_names() {
        for secret in ["password", "passwd", "api_token", "secret-key", "snmp_community", "Passphrase"] {
            assert!(Secrets::is_secret(secret), "{secret}");
        }
        for plain in ["ip", "username", "password_script", "identity_file", "plug"] {
            assert!(!Secrets::is_secret(plain), "{plain}");
        }
    }
}
