//! A site whose database is noise after a power cut, and who has a backup of it.

use std::fs;
use std::time::Duration;

use airlift_tests::clock::wait_until;
use rusqlite::Connection;

use super::stand::{SITE, Stand};
use crate::journey::{receipt, receipts};
use crate::kills::seed;

#[test]
fn a_site_whose_database_is_damaged_goes_on_from_its_backup_says_so_and_takes_the_next_version() {
    let mut stand = Stand::set_up(seed());
    stand.begin(1);
    stand.finish();
    let _ = receipt(&stand.hub, SITE, "healthy", "1.0.0");
    // The site acknowledges what it was told to the end, and rests; then the agent makes its hourly backup.
    std::thread::sleep(Duration::from_secs(3));
    stand.site.process().kill();
    let state = stand.site.state_dir();
    let database = Connection::open(state.join("agent.db")).unwrap();
    database.execute("VACUUM INTO ?", [state.join("agent.db.backup").to_str().unwrap()]).unwrap();
    drop(database);
    let mut bytes = fs::read(state.join("agent.db")).unwrap();
    bytes[..512].fill(0x5a);
    fs::write(state.join("agent.db"), &bytes).unwrap();

    stand.site.run(&stand.hub);
    wait_until("the alarm at the hub", Duration::from_secs(60), || {
        stand.site.process().check_alive()?;
        let rows = receipts(&stand.hub, SITE);
        let told = rows.iter().any(|row| row["outcome"] == "alarm" && row.to_string().contains("AL0906"));
        if told { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    assert_eq!(fs::read(state.join("agent.db.damaged-1")).unwrap(), bytes, "it is kept as it was");
    let diagnosis = stand.site.try_read(&stand.hub, &["doctor"]).unwrap();
    let check = diagnosis["items"].as_array().unwrap().iter().find(|check| check["name"] == "database");
    assert_eq!(check.unwrap()["grade"], "warn", "{diagnosis}");
    stand.begin(2);
    stand.finish();
    let _ = receipt(&stand.hub, SITE, "healthy", "2.0.0");
    let _ = stand.hub.airlift(&["receipt", "verify", "--site", SITE]);
}
