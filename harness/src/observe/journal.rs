//! The journals that programs keep of what they were asked, read over HTTP as JSON.

/// The journal of one program, of all its instances together: which instance served a call is a matter of timing.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    /// Program name.
    pub program: String,
    /// What each instance answered, in the order of the instances' names.
    pub documents: Vec<serde_json::Value>,
}

/// Why a journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The description names a program that is not running.
    #[error("observe: no program {program:?} is running, so it has no journal")]
    NoProgram {
        /// Its described name.
        program: String,
    },
    /// The program did not answer.
    #[error("could not read the journal {url}")]
    Http {
        /// What was asked.
        url: String,
        /// The cause.
        source: reqwest::Error,
    },
}

/// Reads the journal at `path` of each of the `instances` (base URLs).
pub(super) async fn read(
    client: &reqwest::Client,
    program: &str,
    instances: &[&str],
    path: &str,
) -> Result<Journal, JournalError> {
    if instances.is_empty() {
        return Err(JournalError::NoProgram { program: program.to_owned() });
    }
    let mut documents = Vec::new();
    for base in instances {
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let http = |source| JournalError::Http { url: url.clone(), source };
        let answer = client.get(&url).send().await.and_then(reqwest::Response::error_for_status).map_err(http)?;
        documents.push(answer.json().await.map_err(http)?);
    }
    Ok(Journal { program: program.to_owned(), documents })
}
