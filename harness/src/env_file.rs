//! Variables in a file: for a shell that reads it, and for the many programs that take `NAME=value` lines.

/// Characters that a shell takes as they are, beside letters and digits.
const PLAIN: &str = "_-./:@,=+%";

/// A variable that cannot stand in a file.
#[derive(Debug, thiserror::Error)]
#[error("{0} has a line break or a single quote, which a file of variables cannot hold")]
pub struct Unwritable(String);

/// The text of a file: a first line that says what it is, and a line for each variable, quoted where a shell needs it.
///
/// # Errors
/// One cannot be written.
pub fn text<'a>(
    head: &str,
    variables: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<String, Unwritable> {
    let mut text = format!("{head}\n");
    for (name, value) in variables {
        if value.contains(['\n', '\'']) {
            return Err(Unwritable(name.clone()));
        }
        let is_plain = value.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c));
        let quote = if is_plain { "" } else { "'" };
        text.push_str(&format!("{name}={quote}{value}{quote}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_was_written() {
        let values = ["127.18.4.7:9092,127.18.4.7:9093", "postgres://u:p@h/d?sslmode=disable&x=$y", "two words; #", ""];
        for value in values {
            let text = text("# head", [(&"VALUE".to_owned(), &value.to_owned())]).expect("it can be written");
            assert!(text.starts_with("# head\nVALUE="), "{text}");
            let script = format!("set -a; {text} printenv VALUE");
            let told = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell runs");
            assert_eq!(String::from_utf8_lossy(&told.stdout), format!("{value}\n"));
        }
        let broken = text("", [(&"SECRET".to_owned(), &"a\nb".to_owned())]).expect_err("no line holds it");
        assert!(broken.to_string().starts_with("SECRET has a line break"), "{broken}");
    }
}
