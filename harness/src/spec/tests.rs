//! A wrong description is told by line, column and what was expected.

use std::path::Path;

use super::{Scope, read_str};

fn complaint(text: &str) -> String {
    match read_str(Path::new("environment.toml"), text) {
        Ok(_) => "no complaint".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn unknown_field_names_line_column_and_expectation() {
    let text = "name = \"x\"\n[kafka]\nbrokers = 3\nbroker_count = 3\n";
    insta::assert_snapshot!(complaint(text), @"wrong description environment.toml:4:1: unknown field `broker_count`, expected one of `brokers`, `replication`, `min_insync_replicas`, `port`, `layout`, `timings`, `topics`");
}

#[test]
fn wrong_type_names_line_and_column() {
    insta::assert_snapshot!(complaint("name = \"x\"\n[redis]\nport = \"many\"\n"), @r#"wrong description environment.toml:3:8: invalid type: string "many", expected u16"#);
}

#[test]
fn unfinished_toml_names_line_and_column() {
    insta::assert_snapshot!(complaint("name = \"x\"\n[kafka\n"), @"wrong description environment.toml:2:7: unclosed table, expected `]`");
}

#[test]
fn replication_beyond_the_brokers_is_refused() {
    insta::assert_snapshot!(complaint("name = \"x\"\n[kafka]\nbrokers = 1\nreplication = 3\n"), @"wrong description environment.toml:4:1: `replication` is 3; expected 1 to 1 (the brokers)");
}

#[test]
fn a_topic_described_twice_is_refused() {
    let text = "name = \"x\"\n[kafka]\ntopics = [{ name = \"t\" }, { name = \"t\" }]\n";
    insta::assert_snapshot!(complaint(text), @r#"wrong description environment.toml:3:20: topic "t": it is described twice"#);
}

#[test]
fn two_parts_on_one_port_are_refused() {
    insta::assert_snapshot!(complaint("name = \"x\"\n[redis]\nport = 5432\n[postgres]\ndatabase = \"d\"\n"), @"wrong description environment.toml:3:8: redis and postgres both take port 5432");
}

#[test]
fn a_port_that_the_controllers_take_is_refused() {
    insta::assert_snapshot!(complaint("name = \"x\"\n[kafka]\n[redis]\nport = 9192\n"), @"wrong description environment.toml:4:8: redis and kafka's controllers both take port 9192");
}

#[test]
fn the_last_port_is_a_port_and_the_one_behind_it_is_told() {
    let program = |instances| {
        format!("name = \"x\"\n[[programs]]\nname = \"p\"\nbinary = \"p\"\nport = 65535\ninstances = {instances}\n")
    };
    let spec = super::read_str(Path::new("environment.toml"), &program(1)).expect("a right description");
    assert_eq!(spec.ports(Scope::Everything), [65535]);
    assert!(complaint(&program(2)).ends_with("p: a port lies outside 1 to 65535"));
    assert!(complaint("name = \"x\"\n[kafka]\nport = 65500\n").ends_with("a port lies outside 1 to 65535"));
}

#[test]
fn a_program_needs_a_binary_or_a_command() {
    insta::assert_snapshot!(complaint("name = \"x\"\n[[programs]]\nname = \"p\"\nport = 80\n"), @r#"wrong description environment.toml:3:8: program "p": expected one of `binary`, `command` and `image`"#);
}

#[test]
fn every_description_of_the_project_is_right() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let directories = std::fs::read_dir(fixtures).expect("the fixtures");
    let descriptions: Vec<_> = directories
        .map(|entry| entry.expect("a fixture").path().join("environment.toml"))
        .filter(|path| path.is_file())
        .collect();
    assert!(!descriptions.is_empty(), "no fixture has a description");
    for path in descriptions {
        super::read(&path).unwrap_or_else(|error| panic!("{error}"));
    }
}
