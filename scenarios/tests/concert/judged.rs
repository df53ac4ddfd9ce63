//! `cargo xtask test --service`: what these very stories say of somebody else's service.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use greenroom::binaries::{self, BINARIES_VARIABLE, GREENROOM};
use greenroom::scenario::Verdict;
use greenroom::service::Service;

/// Stories of which one holds, one is broken and one cannot be asked.
const STORIES: [&str; 3] =
    ["payments::approved_payment", "defects::money::a_refund_adds_numbers", "defects::retries::attempts_have_a_limit"];

/// Goal: a service that breaks a law is told which; what it keeps holds, what it cannot be asked is listed, and the run
/// fails.
/// Method: our service with the refund of the original in it plays somebody else's, started by a shell. A script stands for
/// cargo-nextest and runs three of these stories.
#[test]
fn a_defect_of_somebody_elses_service_is_told() -> Verdict {
    if Service::of_this_run()?.is_some() {
        // It would judge the judgement.
        return Ok(());
    }
    let binaries = binaries::built()?;
    binaries::build_variant("concert-service/broken", "concert-service-broken")?;
    let directory = tempfile::tempdir()?;
    let nextest = directory.path().join("nextest");
    let stories = format!("{} --exact --test-threads 1 {}", std::env::current_exe()?.display(), STORIES.join(" "));
    std::fs::write(&nextest, format!("#!/bin/sh\nexec {stories}\n"))?;
    std::fs::set_permissions(&nextest, PermissionsExt::from_mode(0o755))?;

    let service = format!("PLANTED_DEFECT=refund-as-text exec {}/concert-service-broken", binaries.display());
    let mut judge = Command::new(binaries.join(GREENROOM));
    judge.arg("judge").arg("--nextest").arg(nextest).args(["--service", &service]).env(BINARIES_VARIABLE, &binaries);
    let judged = judge.output()?;
    let (table, said) = (String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
    assert!(!judged.status.success(), "a broken law is no success: {table}\n{said}");
    for row in [
        "| defects: money: a refund adds numbers",
        "| BROKEN ",
        "user 1 has 9000010000 and 90000 points",
        "| defects: retries: attempts have a limit",
        "the contract has no OUTBOX_ATTEMPTS_MAX",
        "| payments: approved payment",
        "1 hold, 1 broken, 1 skipped because the service cannot be asked",
    ] {
        assert!(table.contains(row), "the table lacks {row:?}: {table}\n{said}");
    }
    Ok(())
}
