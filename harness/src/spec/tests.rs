//! A wrong description is told by line, column and what was expected.

use std::path::Path;

use super::{RequestSpec, Scope, read_str};

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
    insta::assert_snapshot!(complaint("name = \"x\"\n[kafka]\nbrokers = 1\nreplication = 3\n"), @"wrong description environment.toml:4:15: `replication` is 3; expected 1 to 1 (the brokers)");
}

#[test]
fn a_topic_described_twice_is_refused() {
    let text = "name = \"x\"\n[kafka]\ntopics = [{ name = \"t\" }, { name = \"t\" }]\n";
    insta::assert_snapshot!(complaint(text), @r#"wrong description environment.toml:3:36: topic "t": it is described twice"#);
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
    assert!(
        complaint(&program(2)).ends_with(":5:8: p: port 65536 lies outside 1 to 65535"),
        "{}",
        complaint(&program(2))
    );
    let controllers = complaint("name = \"x\"\n[kafka]\nport = 65500\n");
    assert!(controllers.ends_with(":3:8: kafka's controllers: port 65600 lies outside 1 to 65535"), "{controllers}");
}

#[test]
fn a_program_needs_a_binary_or_a_command() {
    insta::assert_snapshot!(complaint("name = \"x\"\n[[programs]]\nname = \"p\"\nport = 80\n"), @r#"wrong description environment.toml:2:1: program "p": expected one of `binary`, `command` and `image`"#);
}

#[test]
fn what_is_wrong_is_told_where_it_stands_and_not_where_the_same_word_stands() {
    let programs = "name = \"shop\"\n[[programs]]\nname = \"bank\"\nbinary = \"b\"\nport = 80\n\
                    [[programs]]\nname = \"shop\"\nbinary = \"s\"\nport = 81\n";
    insta::assert_snapshot!(complaint(&format!("{programs}instances = 0\n")), @r#"wrong description environment.toml:10:13: program "shop": expected at least one instance"#);
    insta::assert_snapshot!(complaint(&programs.replace("81", "0")), @"wrong description environment.toml:9:8: shop: port 0 lies outside 1 to 65535");
    insta::assert_snapshot!(complaint(&format!("{programs}ready = \"health\"\n")), @r#"wrong description environment.toml:10:9: program "shop": "health" is no path that begins with `/`"#);
    let second = "instances = 2\n[[programs]]\nname = \"shop-2\"\nbinary = \"s\"\nport = 90\n";
    insta::assert_snapshot!(complaint(&format!("{programs}{second}")), @r#"wrong description environment.toml:12:8: program "shop-2": shop-2 is described twice; the second instance of `shop` is called `shop-2`"#);
}

#[test]
fn a_request_for_a_fault_is_one_that_can_be_sent() {
    let told = |fault: &str| {
        let program = "name = \"x\"\n[[programs]]\nname = \"bank\"\nbinary = \"b\"\nport = 80\n[programs.faults]\n";
        complaint(&format!("{program}{fault}\n"))
    };
    assert_eq!(told("late = { path = \"/rules\", json = '{\"ms\": {milliseconds}}' }"), "no complaint");
    assert_eq!(told("none = { method = \"DELETE\", path = \"/rules\" }"), "no complaint");
    insta::assert_snapshot!(told("late = { path = \"rules\" }"), @r#"wrong description environment.toml:7:17: program "bank": fault "late": "rules" is no path that begins with `/` and has no braces"#);
    insta::assert_snapshot!(told("late = { method = \"put\", path = \"/rules\" }"), @r#"wrong description environment.toml:7:19: program "bank": fault "late": "put" is no HTTP method in capital letters"#);
    insta::assert_snapshot!(told("late = { path = \"/rules\", json = '{\"ms\": {seconds}}' }"), @r#"wrong description environment.toml:7:34: program "bank": fault "late": it is no JSON: key must be a string at line 1 column 9"#);
    insta::assert_snapshot!(told("late = { path = \"/rules\", json = '[{number}, {milliseconds}]' }"), @r#"wrong description environment.toml:7:34: program "bank": fault "late": it takes one value at most"#);
}

#[test]
fn a_fault_takes_its_value_or_says_what_it_takes() {
    let body = |json: &str, value: Option<&str>| {
        RequestSpec { method: "POST".to_owned(), path: "/".to_owned(), json: Some(json.to_owned()) }.body(value)
    };
    let sent = |json: &str| Ok(Some(json.to_owned()));
    assert_eq!(body("{\"ms\": {milliseconds}}", Some("1m 2s")), sent("{\"ms\": 62000}"));
    assert_eq!(body("[{number}]", Some("503")), sent("[503]"));
    assert_eq!(body("[1]", None), sent("[1]"));
    let wrong = |told: &str| Err(told.to_owned());
    assert_eq!(body("[{milliseconds}]", Some("3")), wrong("takes a duration such as 200ms, and \"3\" is given"));
    assert_eq!(body("[{number}]", Some("-1")), wrong("takes a whole number, and \"-1\" is given"));
    assert_eq!(body("[{number}]", None), wrong("takes a whole number, and none is given"));
    assert_eq!(body("[1]", Some("3")), wrong("takes no value, and \"3\" is given"));
}

#[test]
fn a_program_dies_at_a_point_that_its_description_has() {
    let text = "name = \"shop\"\n[[programs]]\nname = \"shop\"\nbinary = \"shop\"\nport = 80\n\
                [programs.failpoints]\nfeature = \"shop/crash\"\nbinary = \"shop-crash\"\nvariable = \"CRASH\"\n\
                points = { after-sale = \"sold\", before-sale = \"asked\" }\n";
    let mut spec = read_str(Path::new("environment.toml"), text).expect("a right description");
    let unknown = spec.crash_at("lunch").expect_err("there is none").to_string();
    assert_eq!(unknown, "shop has no failpoint lunch; they are after-sale, before-sale");
    assert_eq!(spec.programs[0].binary.as_deref(), Some("shop"));
    assert_eq!(spec.crash_at("after-sale").expect("a point").feature, "shop/crash");
    assert_eq!(spec.programs[0].binary.as_deref(), Some("shop-crash"));
    assert_eq!(spec.programs[0].variables["CRASH"], "sold");
}

#[test]
fn failpoints_are_of_a_binary_and_have_names() {
    let told = |runs: &str, variable: &str, points: &str| {
        let program = format!("name = \"x\"\n[[programs]]\nname = \"bank\"\n{runs}\nport = 80\n");
        let failpoints = "[programs.failpoints]\nfeature = \"bank/crash\"\nbinary = \"crash\"\n";
        complaint(&format!("{program}{failpoints}variable = \"{variable}\"\npoints = {points}\n"))
    };
    let (binary, points) = ("binary = \"bank\"", "{ after-sale = \"sold\" }");
    assert_eq!(told(binary, "CRASH", points), "no complaint");
    insta::assert_snapshot!(told("command = [\"bank\"]", "CRASH", points), @r#"wrong description environment.toml:6:1: program "bank": failpoints: they are of a variant of its `binary`, and it has none"#);
    insta::assert_snapshot!(told(binary, "A=B", points), @r#"wrong description environment.toml:9:12: program "bank": failpoints: variable "A=B": expected letters, digits and `_`, and no digit at first"#);
    insta::assert_snapshot!(told(binary, "CRASH", "{}"), @r#"wrong description environment.toml:10:10: program "bank": failpoints: expected at least one point"#);
}

#[test]
fn what_is_observed_has_a_meaning() {
    let told = |text: &str| complaint(&format!("name = \"x\"\n{text}\n"));
    insta::assert_snapshot!(told("[observe]\npatterns = [\"a-{a}\", \"{a}{b}\"]"), @r#"wrong description environment.toml:3:22: pattern "{a}{b}": expected a text between two ids, which says where the first ends"#);
    insta::assert_snapshot!(told("[observe]\npatterns = [\"\"]"), @r#"wrong description environment.toml:3:13: pattern "": expected at least one `{kind of id}`"#);
    insta::assert_snapshot!(told("[postgres]\ndatabase = \"x\"\n[observe]\ntables = [\"goods\"]\nunordered = [\"good\"]"), @r#"wrong description environment.toml:6:14: table "good" is not among `tables`"#);
    insta::assert_snapshot!(told("[observe]\nstories = [\"event\"]\npatterns = [\"of-{order}\"]"), @r#"wrong description environment.toml:3:12: "event" is no kind of id; those that `ids` and `patterns` name: order"#);
    insta::assert_snapshot!(told("[observe.journals]\nbank = \"/journal\""), @r#"wrong description environment.toml:3:8: no program "bank" is described"#);
    insta::assert_snapshot!(told("[observe]\ntables = [\"goods\"]"), @r#"wrong description environment.toml:3:10: `observe.tables` is about a database, and no [postgres] is described"#);
    insta::assert_snapshot!(told("[settle.empty]\n\"goods waiting\" = \"SELECT 0\""), @r#"wrong description environment.toml:2:1: `settle.empty` is about a database, and no [postgres] is described"#);
    insta::assert_snapshot!(told("[settle]\nconsumers = [{ group = \"g\", topics = [] }]"), @r#"wrong description environment.toml:3:13: `settle.consumers` is about topics, and no [kafka] is described"#);
    insta::assert_snapshot!(told("[postgres]\ndatabase = \"x\"\n[[programs]]\nname = \"shop\"\nbinary = \"shop\"\nport = 3000\n[observe]\nhistory = [{ table = \"t\", key = \"id\", column = \"c\" }]"), @r#"wrong description environment.toml:9:11: `observe.history` is recorded once the program with `under_test = true` has made its tables, and no program has that"#);
    insta::assert_snapshot!(told("[[audit.expected]]\npart = \"redis\"\ntext = \"x\"\nreason = \"y\""), @r#"wrong description environment.toml:3:8: no part "redis" is described"#);
    insta::assert_snapshot!(told("[variables]\n\"spring.kafka.url\" = \"x\""), @r#"wrong description environment.toml:2:1: variable "spring.kafka.url": expected letters, digits and `_`, and no digit at first"#);
    insta::assert_snapshot!(told("[settle]\nidle = [{ program = \"bank\", path = \"status\" }]"), @r#"wrong description environment.toml:3:9: program "bank": "status" is no path that begins with `/`"#);
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
