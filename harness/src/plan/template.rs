//! Fills `{name}` in the variables and commands of a description.
//!
//! Names: `address`, `environment`, `directory`; `kafka.host`, `kafka.port` (of the first broker), `kafka.brokers`
//! (comma list); `postgres.host`, `.port`, `.user`, `.password`, `.database`, `.url`; `redis.host`, `.port`, `.url`;
//! `PROGRAM.host`, `.port`, `.url`; and, for a program itself, `port` and `bind` (the address that it listens on).
//! `{{` and `}}` stand for the braces.

use std::collections::BTreeMap;

use super::database_url::database_url;
use super::{PlanError, Site, instance_name};
use crate::spec::Spec;

/// The names that a template may use, with their values.
#[derive(Clone, Debug)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// All names of an environment.
    #[must_use]
    pub fn of(spec: &Spec, site: &Site) -> Self {
        let address = site.address;
        let mut names = BTreeMap::from([
            ("address".to_owned(), address.to_string()),
            ("environment".to_owned(), site.environment.clone()),
            ("directory".to_owned(), site.directory.display().to_string()),
        ]);
        let mut add = |part: &str, fields: &[(&str, String)]| {
            names.insert(format!("{part}.host"), address.to_string());
            names.extend(fields.iter().map(|(field, value)| (format!("{part}.{field}"), value.clone())));
        };
        if let Some(kafka) = &spec.kafka {
            let brokers: Vec<_> = (0..kafka.brokers).map(|index| format!("{address}:{}", kafka.port + index)).collect();
            add("kafka", &[("port", kafka.port.to_string()), ("brokers", brokers.join(","))]);
        }
        if let Some(postgres) = &spec.postgres {
            let (user, password, database) = (&postgres.user, &postgres.password, &postgres.database);
            let server = format!("{address}:{}", postgres.port);
            add(
                "postgres",
                &[
                    ("port", postgres.port.to_string()),
                    ("user", user.clone()),
                    ("password", password.clone()),
                    ("database", database.clone()),
                    ("url", database_url(user, Some(password), &server, database)),
                ],
            );
        }
        if let Some(redis) = &spec.redis {
            let url = format!("redis://{address}:{}", redis.port);
            add("redis", &[("port", redis.port.to_string()), ("url", url)]);
        }
        for program in &spec.programs {
            for instance in 0..program.instances {
                let port = program.port + instance;
                let url = format!("http://{address}:{port}");
                add(&instance_name(program, instance), &[("port", port.to_string()), ("url", url)]);
            }
        }
        Self(names)
    }

    /// The same names and one more.
    #[must_use]
    pub fn with(&self, name: &str, value: String) -> Self {
        let mut names = self.0.clone();
        names.insert(name.to_owned(), value);
        Self(names)
    }

    /// Fills one template; `place` says in an error where it stands.
    ///
    /// # Errors
    /// It names something unknown, or a brace has no partner.
    pub fn expand(&self, place: &str, template: &str) -> Result<String, PlanError> {
        let unbalanced = || PlanError::Unbalanced { place: place.to_owned(), template: template.to_owned() };
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
            } else if brace == "{" {
                let (name, after) = rest.split_once('}').ok_or_else(unbalanced)?;
                text.push_str(self.0.get(name).ok_or_else(|| self.unknown(place, name))?);
                rest = after;
            } else {
                return Err(unbalanced());
            }
        }
        text.push_str(rest);
        Ok(text)
    }

    /// Fills every value of a table of variables.
    ///
    /// # Errors
    /// As [`Names::expand`].
    pub fn expand_all(
        &self,
        place: &str,
        templates: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, PlanError> {
        let expand = |(name, template): (&String, &String)| {
            Ok((name.clone(), self.expand(&format!("{place}.{name}"), template)?))
        };
        templates.iter().map(expand).collect()
    }

    fn unknown(&self, place: &str, name: &str) -> PlanError {
        let expected: Vec<_> = self.0.keys().map(String::as_str).collect();
        PlanError::UnknownName { place: place.to_owned(), name: name.to_owned(), expected: expected.join(", ") }
    }
}
