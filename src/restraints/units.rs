use std::time::Duration;

/// Parses a whole number with its unit: `90s`, `30m`, `2h`, `1d`. None for anything else, zero included.
pub(super) fn time_with_unit(text: &str) -> Option<Duration> {
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let seconds = whole(number)?.checked_mul(seconds)?;
    Some(Duration::from_secs(seconds))
}

/// Parses a decimal number from 1 on, without sign and leading zeros.
pub(super) fn whole(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if is_plain { text.parse().ok() } else { None }
}

/// Writes a time with the largest unit that gives a whole number.
pub(super) fn written(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(size, _)| seconds >= *size && seconds % size == 0);
    unit.map_or_else(|| format!("{seconds}s"), |(size, unit)| format!("{}{unit}", seconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("1s", 1)] {
            assert_eq!(time_with_unit(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        let wrong = [
            "",
            "s",
            "30",
            "0s",
            "030m",
            "-1m",
            "+1m",
            "1 m",
            " 1m",
            "1m ",
            "1.5h",
            "1h30m",
            "1w",
            "1M",
            "m1",
            "99999999999999999999d",
            "300000000000000d",
            "1é",
        ];
        assert!(wrong.iter().all(|text| time_with_unit(text).is_none()));
    }

    #[test]
    fn a_time_is_written_as_it_is_read() {
        for text in ["90s", "30m", "2h", "1d", "61m", "25h"] {
            assert_eq!(time_with_unit(text).map(written).as_deref(), Some(text));
        }
        assert_eq!(written(Duration::from_secs(60)), "1m");
    }
}
