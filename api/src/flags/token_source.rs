//! Where a join token comes from.

use std::io::ErrorKind;
use std::path::PathBuf;

use clap::Args;

use super::UsageError;
use crate::JoinToken;

/// Environment variable that holds a join token.
pub const JOIN_VARIABLE: &str = "WEFT_JOIN";

/// A flag, a file or the environment: one of them, or none.
#[derive(Debug, Clone, Default, Args)]
pub struct TokenSource {
    /// Join with the token in this file, or with the one in the environment variable WEFT_JOIN; the key is made here
    /// and stays here
    #[arg(long, env = "WEFT_JOIN_FILE", value_name = "FILE")]
    pub join_file: Option<PathBuf>,
    /// Join with this token. It shows in the process list: prefer --join-file or WEFT_JOIN
    #[arg(long, value_name = "TOKEN")]
    pub join: Option<String>,
}

impl TokenSource {
    /// The token, `None` where no source is given.
    ///
    /// # Errors
    /// When two sources are given, the file cannot be read, or what is given is no token; the message names the source.
    pub fn read(&self) -> Result<Option<JoinToken>, UsageError> {
        self.read_beside(std::env::var(JOIN_VARIABLE).ok())
    }

    /// Whether the token should be in a file that is not there: used up and removed, where an identity is kept.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let missing =
            |path: &PathBuf| std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.join_file.as_ref().is_some_and(missing)
    }

    fn read_beside(&self, environment: Option<String>) -> Result<Option<JoinToken>, UsageError> {
        let environment = environment.filter(|text| !text.is_empty());
        let given = [
            (JOIN_VARIABLE, environment.is_some()),
            ("--join-file", self.join_file.is_some()),
            ("--join", self.join.is_some()),
        ];
        let given: Vec<&'static str> =
            given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if let [flag, other, ..] = given[..] {
            let reason = format!("a token is given by {other} too; give it by one of them");
            return Err(UsageError::Flag { flag, reason });
        }
        let (flag, text, place) = match (&self.join, &self.join_file, environment) {
            (Some(text), ..) => ("--join", text.clone(), String::new()),
            (None, Some(path), _) => {
                let place = format!("{}: ", path.display());
                let text = std::fs::read_to_string(path).map_err(|error| UsageError::Flag {
                    flag: "--join-file",
                    reason: format!("{place}{error}"),
                })?;
                ("--join-file", text, place)
            }
            (None, None, Some(text)) => (JOIN_VARIABLE, text, String::new()),
            (None, None, None) => return Ok(None),
        };
        let wrong = |error| UsageError::Flag { flag, reason: format!("{place}{error}") };
        text.trim().parse().map(Some).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn token(id: &str) -> String {
        JoinToken {
            control_planes: "127.0.0.1:7401".parse().unwrap(),
            service: None,
            id: id.to_owned(),
            secret: [7; 32],
            root_spki_sha256: [9; 32],
        }
        .to_string()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn source(join: Option<&str>, file: Option<&tempfile::NamedTempFile>) -> TokenSource {
        TokenSource { join: join.map(str::to_owned), join_file: file.map(|file| file.path().to_owned()) }
    }

    #[test]
    fn token_is_read_from_wherever_it_is_given() {
        let in_file = file(&(token("t-file") + "\n"));
        for (source, environment, id) in [
            (source(Some(&token("t-flag")), None), None, Some("t-flag")),
            (source(None, Some(&in_file)), None, Some("t-file")),
            (source(None, None), Some(token("t-env")), Some("t-env")),
            (source(None, Some(&in_file)), Some(String::new()), Some("t-file")),
            (source(None, None), None, None),
        ] {
            let read = source.read_beside(environment).unwrap();
            assert_eq!(read.map(|token| token.id).as_deref(), id);
        }
    }

    #[test]
    fn two_sources_are_refused_and_both_are_named() {
        let in_file = file(&token("t-file"));
        for (source, environment, names) in [
            (source(Some(&token("t-1")), Some(&in_file)), None, ["--join", "--join-file"]),
            (source(Some(&token("t-1")), None), Some(token("t-1")), ["--join", JOIN_VARIABLE]),
            (source(None, Some(&in_file)), Some(token("t-1")), ["--join-file", JOIN_VARIABLE]),
        ] {
            let refused = source.read_beside(environment).unwrap_err().to_string();
            assert!(names.iter().all(|name| refused.contains(name)), "{refused}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_by_the_name_of_its_source_and_not_shown() {
        let in_file = file("weft1.nonsense");
        for (source, environment, name) in [
            (source(Some("weft1.nonsense"), None), None, "--join"),
            (source(None, Some(&in_file)), None, "--join-file"),
            (source(None, None), Some("weft1.nonsense".to_owned()), JOIN_VARIABLE),
        ] {
            let refused = source.read_beside(environment).unwrap_err().to_string();
            assert!(refused.contains(name) && !refused.contains("nonsense"), "{refused}");
        }
    }

    #[test]
    fn file_that_is_not_there_is_named() {
        let source = TokenSource { join: None, join_file: Some("/nowhere/token".into()) };
        let refused = source.read_beside(None).unwrap_err().to_string();
        assert!(source.is_gone() && refused.contains("/nowhere/token"), "{refused}");
    }
}
