use crate::sys::tty::{Framing, Parity, speeds};

/// Parses `speed[,DPS]`: data bits 5 to 8, parity N, E, O, M or S (in either
/// case), stop bits 1 or 2; default 8N1. Blanks anywhere do not count.
/// Errors: a message about the first invalid part.
pub(super) fn parse(text: &str) -> Result<Framing, String> {
    let wrong = |what: &str| format!("invalid serial parameters (-P) {text:?}: {what}");
    let text: String = text.split_whitespace().collect();
    let (speed, rest) = text.split_once(',').unwrap_or((&text, "8N1"));
    let speed = speed.parse().ok().filter(|&speed| speeds().any(|known| known == speed));
    let speed = speed.ok_or_else(|| wrong("unsupported speed; use for example 9600 or 115200"))?;
    let [data, parity, stop] = rest.as_bytes() else {
        return Err(wrong("expected data bits, parity and stop bits after the comma, as in 8N1"));
    };
    let data_bits = match data {
        b'5'..=b'8' => data - b'0',
        _ => return Err(wrong("data bits must be 5 to 8")),
    };
    let parity = match parity.to_ascii_uppercase() {
        b'N' => Parity::None,
        b'E' => Parity::Even,
        b'O' => Parity::Odd,
        b'M' => Parity::Mark,
        b'S' => Parity::Space,
        _ => return Err(wrong("parity must be N, E, O, M or S")),
    };
    let stop_bits = match stop {
        b'1' | b'2' => stop - b'0',
        _ => return Err(wrong("stop bits must be 1 or 2")),
    };
    Ok(Framing { speed, data_bits, parity, stop_bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_alone_means_8n1() {
        let framing = Framing { speed: 9600, data_bits: 8, parity: Parity::None, stop_bits: 1 };
        assert_eq!(parse("9600"), Ok(framing));
        assert_eq!(parse("9600,8n1"), Ok(framing));
    }

    #[test]
    fn blanks_do_not_count() {
        for text in ["9600, 7E2", " 9600 ,7E2", "9600,7 E 2", "9600\t,\t7E2 "] {
            let framing = Framing { speed: 9600, data_bits: 7, parity: Parity::Even, stop_bits: 2 };
            assert_eq!(parse(text), Ok(framing), "{text:?}");
        }
        assert_eq!(parse(" 9600 ").map(|framing| framing.data_bits), Ok(8));
    }

    #[test]
    fn every_speed_and_parity() {
        for speed in speeds() {
            for (letter, parity) in [
                ('N', Parity::None),
                ('e', Parity::Even),
                ('O', Parity::Odd),
                ('M', Parity::Mark),
                ('s', Parity::Space),
            ] {
                for data_bits in 5..=8 {
                    for stop_bits in 1..=2 {
                        let got = parse(&format!("{speed},{data_bits}{letter}{stop_bits}"));
                        assert_eq!(got, Ok(Framing { speed, data_bits, parity, stop_bits }));
                    }
                }
            }
        }
    }

    #[test]
    fn errors_name_the_invalid_part() {
        for (text, words) in [
            ("", "speed"),
            ("fast", "speed"),
            ("115201", "speed"),
            (",8N1", "speed"),
            ("9600,", "after the comma"),
            ("9600,8N", "after the comma"),
            ("9600,8N1x", "after the comma"),
            ("9600,9N1", "data bits"),
            ("9600,8X1", "parity"),
            ("9600,8N3", "stop bits"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(words), "{text}: {refusal}");
        }
    }
}
