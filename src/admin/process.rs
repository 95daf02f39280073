//! Metrics of the process itself, under the names that Prometheus clients share.
//!
//! They are read from `/proc` when asked for; where there is none, they are absent.

use std::fmt::Write as _;
use std::fs;

/// The version, and what `/proc` tells, in the Prometheus text format.
pub fn render() -> String {
    let mut out = String::new();
    let version = env!("CARGO_PKG_VERSION");
    family(&mut out, "sidegate_build_info", "gauge", "The version that is running; always 1.");
    let _ = writeln!(out, "sidegate_build_info{{version=\"{version}\"}} 1");
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let (ticks, page) = (system(libc::_SC_CLK_TCK), system(libc::_SC_PAGESIZE));
    if let (Some(stat), Some(ticks)) = (&stat, ticks) {
        if let (Some(user), Some(kernel)) = (stat_field(stat, 14), stat_field(stat, 15)) {
            family(&mut out, "process_cpu_seconds_total", "counter", "CPU time of the process, in seconds.");
            let _ = writeln!(out, "process_cpu_seconds_total {}", (user + kernel) as f64 / ticks as f64);
        }
        if let (Some(started), Some(boot)) = (stat_field(stat, 22), boot_time()) {
            family(&mut out, "process_start_time_seconds", "gauge", "When the process started, in Unix seconds.");
            let _ = writeln!(out, "process_start_time_seconds {}", boot as f64 + started as f64 / ticks as f64);
        }
    }
    if let (Some(pages), Some(page)) = (stat.as_deref().and_then(|stat| stat_field(stat, 24)), page) {
        family(&mut out, "process_resident_memory_bytes", "gauge", "Resident memory, in bytes.");
        let _ = writeln!(out, "process_resident_memory_bytes {}", pages * page);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        family(&mut out, "process_open_fds", "gauge", "Open file descriptors.");
        // Reading the directory opens one more.
        let _ = writeln!(out, "process_open_fds {}", open.count().saturating_sub(1));
    }
    out
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A field of `/proc/self/stat`, numbered from 1 as in proc(5).
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    // The second is the program's name in parentheses, which may contain anything.
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}

/// When the machine started, in Unix seconds.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A constant of the system.
fn system(name: libc::c_int) -> Option<u64> {
    // SAFETY: sysconf takes any number and reads no memory of ours.
    u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_program_name() {
        let stat = "12 (a) b (c) S 4 5 6 7 8 9 10 11 12 13 1400 1500 16";
        assert_eq!(stat_field(stat, 14), Some(1400));
        assert_eq!(stat_field(stat, 99), None);
        assert_eq!(stat_field("", 14), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_all_of_it() {
        let text = render();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        let now = crate::clock::Clock::System.unix_seconds() as f64;
        assert!((now - 86_400.0..=now + 5.0).contains(&value("process_start_time_seconds")), "{text}");
        assert!(value("process_resident_memory_bytes") > 1e6, "{text}");
        assert!(value("process_open_fds") >= 3.0, "{text}");
        assert!(value("process_cpu_seconds_total") >= 0.0, "{text}");
        assert_eq!(value("sidegate_build_info"), 1.0);
    }
}
