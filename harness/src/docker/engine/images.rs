//! What an engine is asked of images: whether it has one, and to fetch or build one.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::{BuildImageOptions, CreateImageOptions, TagImageOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::super::error::{EngineError, failed};
use super::super::recipe::Recipe;
use super::Engine;
use crate::supervisor::state::short_hash;

/// The argument of every Dockerfile of ours that names the base.
const BASE_ARGUMENT: &str = "BASE_IMAGE";
/// Bears the [`Recipe`] that an image was built by.
const BASE_LABEL: &str = "greenroom.base";
/// How long it may take to have a whole image, which a slow disk or a slow line needs: it answers when it has it.
const IMAGE_LIMIT: Duration = Duration::from_mins(30);

impl Engine {
    /// Whether it has an image.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn has(&self, image: &str) -> Result<bool, EngineError> {
        Ok(self.inspect(image).await?.is_some())
    }

    /// The id of an image, if it has it.
    pub(in super::super) async fn id_of(&self, image: &str) -> Result<Option<String>, EngineError> {
        Ok(self.inspect(image).await?.and_then(|found| found.id))
    }

    /// Makes sure that it has the image of a part, and that this is the one of the digest, where one is given; answers
    /// with a digest by which it is known here.
    ///
    /// # Errors
    /// It has none, or another one; or it does not answer.
    pub async fn holds(&self, part: &str, image: &str, digest: Option<&str>) -> Result<String, EngineError> {
        let found = self.inspect(image).await?;
        let missing = || EngineError::NoImage { image: image.to_owned(), part: Some(part.to_owned()) };
        let found = found.ok_or_else(missing)?;
        let given = found.repo_digests.unwrap_or_default();
        let repository = image.rsplit_once(':').map_or(image, |(repository, _)| repository);
        // Its own registry's digest is the one to pin; other repositories give it others.
        let (own, others): (Vec<_>, Vec<_>) =
            given.iter().filter_map(|name| name.split_once('@')).partition(|(name, _)| *name == repository);
        let digests = own.into_iter().chain(others).map(|(_, digest)| digest.to_owned());
        let mut known: Vec<String> = digests.chain(found.id).collect();
        known.dedup();
        match digest {
            Some(wanted) if known.iter().all(|one| one != wanted) => Err(EngineError::OtherImage {
                image: image.to_owned(),
                part: part.to_owned(),
                wanted: wanted.to_owned(),
                found: known.join(", "),
            }),
            Some(wanted) => Ok(wanted.to_owned()),
            None => Ok(known.swap_remove(0)),
        }
    }

    /// Fetches an image from its registry, by its digest where one is given, and answers with the digest that the
    /// registry gives it; `step` hears what the engine says.
    ///
    /// # Errors
    /// The registry cannot be reached or has no such image, or the engine does not answer.
    pub async fn pull(
        &self,
        repository: &str,
        tag: &str,
        digest: Option<&str>,
        mut step: impl FnMut(&str),
    ) -> Result<Option<String>, EngineError> {
        let from = digest.map_or_else(|| format!("{repository}:{tag}"), |digest| format!("{repository}@{digest}"));
        let options = CreateImageOptions { from_image: Some(from.clone()), ..CreateImageOptions::default() };
        let docker = self.docker.clone().with_timeout(IMAGE_LIMIT);
        let mut pulling = std::pin::pin!(docker.create_image(Some(options), None, None));
        let mut given = None;
        while let Some(told) = pulling.next().await {
            let told = told.map_err(failed(&format!("fetch the image {from}")))?;
            // Every layer tells of every piece of it; only what stands for itself is of interest.
            let Some(line) = told.status.filter(|_| told.id.is_none()) else { continue };
            step(&line);
            given = line.strip_prefix("Digest: ").map(str::to_owned).or(given);
        }
        if digest.is_some() {
            let named = TagImageOptions { repo: Some(repository.to_owned()), tag: Some(tag.to_owned()) };
            self.docker.tag_image(&from, Some(named)).await.map_err(failed(&format!("name the image {from}")))?;
        }
        Ok(given)
    }

    /// Whether it has an image that was built over this base, as the base is now, by this Dockerfile.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn has_built(&self, image: &str, base: &str, dockerfile: &str) -> Result<bool, EngineError> {
        let labels = self.inspect(image).await?.and_then(|found| found.config?.labels);
        let recipe = self.recipe(base, dockerfile).await?;
        Ok(labels.is_some_and(|labels| labels.get(BASE_LABEL).is_some_and(|label| recipe.made(label))))
    }

    /// What an image would be built by.
    pub(in super::super) async fn recipe(&self, base: &str, dockerfile: &str) -> Result<Recipe, EngineError> {
        let base_id = self.inspect(base).await?.and_then(|found| found.id);
        Ok(Recipe { base: base.to_owned(), dockerfile: short_hash(OsStr::new(dockerfile)), base_id })
    }

    /// What the engine knows of an image, if there is one.
    async fn inspect(&self, image: &str) -> Result<Option<ImageInspect>, EngineError> {
        match self.docker.inspect_image(image).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(source) => Err(EngineError::Failed { action: format!("look for the image {image}"), source }),
        }
    }

    /// Builds an image by its recipe from a context, a tar archive with a `Dockerfile` that reads these arguments and
    /// [`BASE_ARGUMENT`]; `step` hears what the engine says.
    ///
    /// # Errors
    /// The context cannot be read, or a step failed.
    pub(in super::super) async fn build(
        &self,
        image: &str,
        recipe: &Recipe,
        mut arguments: HashMap<String, String>,
        context: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        mut step: impl FnMut(&str),
    ) -> Result<(), EngineError> {
        arguments.insert(BASE_ARGUMENT.to_owned(), recipe.base.clone());
        let options = BuildImageOptions {
            dockerfile: "Dockerfile".to_owned(),
            t: Some(image.to_owned()),
            labels: Some(HashMap::from([(BASE_LABEL.to_owned(), recipe.to_string())])),
            buildargs: Some(arguments),
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let docker = self.docker.clone().with_timeout(IMAGE_LIMIT);
        let mut building = std::pin::pin!(docker.build_image(options, None, Some(bollard::body_try_stream(context))));
        while let Some(told) = building.next().await {
            let told = told.map_err(failed(&format!("build the image {image}")))?;
            if let Some(line) = told.stream.as_deref().map(str::trim).filter(|line| !line.is_empty()) {
                step(line);
            }
        }
        Ok(())
    }
}
