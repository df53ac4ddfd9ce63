//! How brokers begin in their image: as copies of a JVM that has run brokers in that image before, where it has CRIU.
//!
//! Deliberately absent: what a checkpoint is and how it is made; see [`artifacts`].

use std::time::Duration;

use super::container::made_by_this;
use super::host::for_its_command;
use super::{Engine, EngineError, images};
use crate::artifacts::{self, PrepareError, Progress, Within};
use crate::toolchain::{HeldImage, Start, Toolchain};

/// How long the engine may take to say which image it has. One that is slower is waited for, and told of, where it is
/// asked for containers.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The image of ours that brokers of this toolchain run in, if they run in one of ours and the engine at `host` has it.
///
/// # Errors
/// There is no engine, or it does not answer.
pub async fn image(host: &str, toolchain: &Toolchain) -> Result<Option<Within>, EngineError> {
    if toolchain.images.kafka.is_some() {
        return Ok(None);
    }
    let name = images::kafka(toolchain).name;
    let id = Engine::at(host).await?.id_of(&name).await?;
    let within = |id| Ok(Within { image: HeldImage { name, id }, host: for_its_command(host)?, label: made_by_this() });
    id.map(within).transpose()
}

/// How brokers of this toolchain begin in containers of the engine at `host`; makes, once after each boot, what they
/// are restored from.
///
/// An engine that does not answer, or has no such image, is no error here: whoever starts a container tells of it.
///
/// # Errors
/// The checkpoint cannot be kept, or what is kept cannot be read.
pub async fn begin(
    host: &str,
    toolchain: &Toolchain,
    mut progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Start, PrepareError> {
    let because = match tokio::time::timeout(ANSWER_LIMIT, image(host, toolchain)).await {
        Ok(Ok(Some(within))) => {
            let toolchain = toolchain.clone();
            let preparing = move || artifacts::prepare_within(&within, &toolchain, &mut progress);
            let prepared = tokio::task::spawn_blocking(preparing).await;
            return prepared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        }
        Ok(Ok(None)) if toolchain.images.kafka.is_some() => "their image is of others",
        Ok(Ok(None)) => "the engine has not their image",
        Ok(Err(_)) | Err(_) => "the engine does not say whether it has their image",
    };
    Ok(Start::Cold { because: because.to_owned() })
}
