//! An agent that has nothing to do.

use std::time::{Duration, Instant};

use super::host::Host;
use super::proc;
use super::table::Table;

/// Until what a deploy left behind (threads that wait for more work, memory) is gone.
const CALM: Duration = Duration::from_secs(60);
/// Long enough for several of its timers.
const WATCHED: Duration = Duration::from_secs(60);
const RESIDENT_KIB_MAX: u64 = 15 * 1024;
const WAKEUPS_PER_S_MAX: f64 = 2.0;

/// Before it ever did anything.
pub fn start_up(host: &Host, table: &mut Table) {
    std::thread::sleep(Duration::from_secs(2));
    table.note("agent just started, resident", resident(&proc::held(host.agent_pid())));
}

/// Lets the agent come to rest, then counts what it does.
pub fn at_rest(host: &Host, when: &str, table: &mut Table) {
    let pid = host.agent_pid();
    std::thread::sleep(CALM);
    let (start, before, used) = (Instant::now(), proc::sleeps(pid), proc::cpu(pid));
    std::thread::sleep(WATCHED);
    // A thread that ended meanwhile is not counted; one that began counts from nothing.
    let wakeups: u64 = proc::sleeps(pid)
        .iter()
        .map(|(task, now)| now.saturating_sub(before.get(task).copied().unwrap_or(0)))
        .sum();
    let span = start.elapsed().as_secs_f64();
    let held = proc::held(pid);
    let name = |what: &str| format!("idle agent, {when}: {what}");
    table.goal(&name("resident"), resident(&held), held.resident <= RESIDENT_KIB_MAX, "≤ 15 MiB");
    let threads = format!("{} threads, {} descriptors", held.threads, held.descriptors);
    table.note(&name("threads"), threads);
    let rate = wakeups as f64 / span;
    table.goal(&name("wake-ups"), format!("{rate:.2} per s"), rate <= WAKEUPS_PER_S_MAX, "≤ 2 per s");
    let share = (proc::cpu(pid) - used).as_secs_f64() / span;
    table.note(&name("processor"), format!("{:.2} % of one", share * 100.0));
}

/// What it holds at this moment.
pub fn resident_now(host: &Host, when: &str, table: &mut Table) {
    let held = proc::held(host.agent_pid());
    let met = held.resident <= RESIDENT_KIB_MAX;
    table.goal(&format!("agent, {when}: resident"), resident(&held), met, "≤ 15 MiB");
}

fn resident(held: &proc::Held) -> String {
    format!(
        "{} ({} its own, {} mapped files)",
        proc::mib(held.resident),
        proc::mib(held.anonymous),
        proc::mib(held.mapped)
    )
}
