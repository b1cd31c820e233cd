//! The values that flags take, as they are typed.

use pipe_engine::verify::Size;

/// Bytes, as `20GB`, `1.5 TB` or a number of bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1.0,
        "KB" | "K" => 1e3,
        "MB" | "M" => 1e6,
        "GB" | "G" => 1e9,
        "TB" | "T" => 1e12,
        _ => return Err("expected a size such as 20GB; units are B, kB, MB, GB, TB".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a size such as 20GB".to_owned())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; bytes below 2⁵³")]
    let bytes = (number * factor).round() as u64;
    Ok(bytes)
}

/// A number of rows, or a share of them.
pub fn sample(text: &str) -> Result<Size, String> {
    const EXPECTED: &str = "expected a number of rows such as 100, or a share such as 1%";
    match text.strip_suffix('%') {
        Some(share) => match share.trim().parse::<f64>() {
            Ok(share) if share > 0.0 && share <= 100.0 => Ok(Size::Share(share / 100.0)),
            _ => Err(EXPECTED.to_owned()),
        },
        None => match text.parse() {
            Ok(count) if count > 0 => Ok(Size::Count(count)),
            _ => Err(EXPECTED.to_owned()),
        },
    }
}

/// `NAME=RUN`.
pub fn pin(text: &str) -> Result<(String, String), String> {
    let (name, run) = name_value(text).map_err(|_| "write NAME=RUN".to_owned())?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.starts_with('.') || !name.chars().all(plain) {
        return Err("a pin is named with letters, digits, `.`, `_` and `-`".to_owned());
    }
    Ok((name, run))
}

/// `NAME=VALUE`.
pub fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        Some((_, value)) => Err(format!("there is no name before `=`: write NAME={value}")),
        None => Err(format!("there is no `=`: write {text}=VALUE")),
    }
}

/// A number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    // More than the largest machines have; libtorch would try to start them all.
    const MOST: usize = 1024;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match text.parse() {
        Ok(threads @ 1..=MOST) => Ok(threads),
        _ => Err(format!(
            "expected a number from 1 to {MOST}; this machine has {cores} cores, which are taken by default"
        )),
    }
}

/// A device by its name.
pub fn device(text: &str) -> Result<String, String> {
    let numbered = text.strip_prefix("cuda:").is_some_and(|n| n.parse::<u8>().is_ok());
    if numbered || ["auto", "cpu", "cuda"].contains(&text) {
        return Ok(text.to_owned());
    }
    Err("expected auto, cpu, cuda or cuda:N".to_owned())
}
