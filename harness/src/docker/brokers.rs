//! How brokers begin in their image: as copies of a JVM that has run brokers in that image before, where it has CRIU.
//!
//! Deliberately absent: what a checkpoint is and how it is made; see [`artifacts`](crate::artifacts).

use super::{Engine, EngineError, images};
use crate::artifacts::{self, PrepareError, Progress};
use crate::toolchain::{HeldImage, Start, Toolchain};

/// The image of ours that brokers of this toolchain run in, if they run in one of ours and the engine has it.
///
/// # Errors
/// There is no engine, or it does not answer.
pub async fn image(host: &str, toolchain: &Toolchain) -> Result<Option<HeldImage>, EngineError> {
    if toolchain.images.kafka.is_some() {
        return Ok(None);
    }
    let name = images::kafka(toolchain).name;
    let id = Engine::at(host).await?.id_of(&name).await?;
    Ok(id.map(|id| HeldImage { name, id }))
}

/// How brokers of this toolchain begin in containers of the engine at `host`; makes, once after each boot, what they
/// are restored from.
///
/// An engine that does not answer, or has no such image, is no error here: whoever starts a container tells of it.
///
/// # Errors
/// The checkpoint cannot be kept, or what is kept cannot be read.
pub async fn begin(
    host: String,
    toolchain: &Toolchain,
    mut progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Start, PrepareError> {
    let Ok(Some(image)) = image(&host, toolchain).await else {
        return Ok(Start::Cold { because: "their image is of others, or is not there".to_owned() });
    };
    let toolchain = toolchain.clone();
    let preparing = move || artifacts::prepare_within(&image, &host, &toolchain, &mut progress);
    let prepared = tokio::task::spawn_blocking(preparing).await;
    prepared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
