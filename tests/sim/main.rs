//! The whole flow of an attempt on a simulated host: crashes at every write, random histories, random faults.
//!
//! What is simulated: landfall's records and `current` (each write atomic and durable on return, the one a
//! crash hits applied, not applied, or torn where appends can tear), releases on disk, processes, health.
//! What is real: `reconcile`, `decide`, `recover`, `deploy`, the journal, the history, the quarantine.

mod world;

use landfall::desired::{Place, Suspension};
use landfall::plan::{Desired, Hold};
use landfall::reconcile::Tick;
use landfall::record::history::{History, Outcome};
use landfall::record::journal::{After, Stage};
use world::{Nature, World};

/// The desired version of each scenario in turn; crashes are injected into the last one.
fn scenarios() -> Vec<(&'static str, Vec<(&'static str, Nature)>)> {
    use Nature::{BadAfter, BadMigration, BadStart, BadStep, BusyStep, Good, Locked, Unhealthy};
    vec![
        ("first deploy", vec![("a", Good)]),
        ("upgrade", vec![("a", Good), ("b", Good)]),
        ("failed step", vec![("a", Good), ("b", BadStep)]),
        ("failed migration", vec![("a", Good), ("b", BadMigration)]),
        ("does not start", vec![("a", Good), ("b", BadStart)]),
        ("unhealthy", vec![("a", Good), ("b", Unhealthy)]),
        ("unhealthy first", vec![("a", Unhealthy)]),
        ("rollback", vec![("a", Good), ("b", Good), ("a", Good)]),
        ("rollback past a bad one", vec![("a", Good), ("b", Unhealthy), ("a", Good)]),
        ("good after bad", vec![("a", Good), ("b", Unhealthy), ("c", Good)]),
        ("good after a failed step", vec![("a", Good), ("b", BadStep), ("c", Good)]),
        ("a busy step", vec![("a", Good), ("b", BusyStep)]),
        ("a locked migration", vec![("a", Good), ("b", Locked)]),
        ("a failing `after` step", vec![("a", Good), ("b", BadAfter)]),
        ("bad after good after bad", vec![("a", Good), ("b", Unhealthy), ("c", Good), ("d", Unhealthy)]),
    ]
}

fn settle(world: &World, name: &str) {
    for _ in 0..4 {
        if matches!(
            world.tick(&world.wants(name)),
            Ok(Tick::InSync { .. } | Tick::Refused(_) | Tick::Held(_))
        ) {
            return;
        }
    }
}

/// What must hold at every instant, crash or not.
fn check_always(world: &World, story: &str) {
    if let Some(current) = world.current() {
        assert!(world.is_prepared(&current), "{story}: `current` names {current}, which is not complete");
    } else {
        assert!(!world.ever_healthy(), "{story}: `current` is gone though a release was healthy");
    }
}

/// What must hold once the host has come to rest with `name` wanted.
fn check_at_rest(world: &World, name: &str, story: &str) {
    check_always(world, story);
    let history = world.history();
    let last_good = history.healthy().first().map(|release| release.name.clone());
    assert_eq!(world.current(), last_good, "{story}: what is linked is not what proved healthy last");
    assert_eq!(world.serving(), last_good, "{story}: what runs is not what proved healthy last");
    if world.nature(name).ends_well() {
        assert_eq!(
            last_good.as_deref(),
            Some(world.release_name(name).as_str()),
            "{story}: it did not converge"
        );
    }
    assert!(!world.has_journal(), "{story}: an attempt is still open");
    let writes = world.writes();
    world.tick(&world.wants(name)).expect("a tick at rest does not fail");
    let again = world.writes() - writes;
    assert_eq!(again, 0, "{story}: a tick at the goal wrote {again} times");
}

#[test]
fn a_crash_at_any_write_of_any_scenario_leaves_a_complete_release_and_converges() {
    let mut states = 0;
    for (title, versions) in scenarios() {
        let (last, before) = versions.split_last().expect("a scenario has a version");
        for at in 0.. {
            let mut crashed = false;
            for torn in 0..3 {
                let world = World::default();
                for (name, nature) in &versions {
                    world.knows(name, *nature);
                }
                for (name, _) in before {
                    settle(&world, name);
                }
                world.crash_after(at, torn);
                let story = format!("{title}, crash at write {at} ({torn})");
                settle(&world, last.0);
                crashed = world.has_crashed();
                world.reboot();
                check_always(&world, &story);
                settle(&world, last.0);
                check_at_rest(&world, last.0, &story);
                states += 1;
            }
            if !crashed {
                break;
            }
        }
    }
    println!("{states} crash states");
    assert!(states >= 390, "only {states} crash states were reached");
}

#[test]
fn healing_keeps_the_version_runs_no_step_and_survives_a_crash_at_any_write() {
    let older = format!("releases/{}", World::default().release_name("a"));
    let mut states = 0;
    for (to, killed) in [(Some(older.as_str()), true), (Some("/elsewhere"), false), (None, true)] {
        for at in 0.. {
            let mut reached = false;
            for second in 0.. {
                let world = World::default();
                for name in ["a", "b"] {
                    world.knows(name, Nature::Good);
                    settle(&world, name);
                }
                let (right, steps) = (world.current(), world.steps());
                world.moves_current(to);
                if killed {
                    world.kill();
                }
                world.crash_after(at, 0);
                settle(&world, "b");
                reached = world.has_crashed();
                world.reboot();
                world.crash_after(second, 1);
                settle(&world, "b");
                let crashed_again = world.has_crashed();
                world.reboot();
                settle(&world, "b");
                let story = format!("{to:?}, crashes at write {at} and {second}");
                check_at_rest(&world, "b", &story);
                assert_eq!((world.current(), world.steps()), (right, steps), "{story}");
                states += 1;
                if !crashed_again {
                    break;
                }
            }
            if !reached {
                break;
            }
        }
    }
    println!("{states} crash states of healing");
    assert!(states >= 150, "only {states} crash states of healing were reached");
}

#[test]
fn a_crash_during_the_recovery_from_a_crash_converges_too() {
    let mut states = 0;
    for (title, versions) in scenarios() {
        let (last, before) = versions.split_last().expect("a scenario has a version");
        for at in 0.. {
            let mut reached = false;
            for second in 0.. {
                let world = World::default();
                for (name, nature) in &versions {
                    world.knows(name, *nature);
                }
                for (name, _) in before {
                    settle(&world, name);
                }
                world.crash_after(at, 0);
                settle(&world, last.0);
                reached = world.has_crashed();
                world.reboot();
                world.crash_after(second, 1);
                settle(&world, last.0);
                let crashed_again = world.has_crashed();
                world.reboot();
                let story = format!("{title}, crashes at write {at} and {second}");
                check_always(&world, &story);
                settle(&world, last.0);
                // Two crashes while a release is on trial count against it, and two in the same stage before that
                // are held: then a good one does not run.
                if !world.is_quarantined(last.0) && !world.is_held(last.0) {
                    check_at_rest(&world, last.0, &story);
                }
                states += 1;
                if !crashed_again {
                    break;
                }
            }
            if !reached {
                break;
            }
        }
    }
    println!("{states} crash states");
    assert!(states >= 1_500, "only {states} crash states were reached");
}

#[test]
fn p8_a_revert_goes_to_the_exact_last_healthy_release_in_any_history() {
    let mut reverts = 0;
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let world = World::default();
        let mut model: Option<String> = None;
        for number in 0..random.usize(2..12) {
            let name = format!("v{}", random.usize(0..=number));
            let nature = *random
                .choice(
                    [Nature::Good, Nature::Good, Nature::Unhealthy, Nature::BadStart, Nature::BadStep].iter(),
                )
                .expect("not empty");
            let nature = world.knows(&name, nature);
            if random.u8(0..4) == 0 {
                world.crash_after(random.usize(0..20), random.usize(0..3));
            }
            settle(&world, &name);
            if world.has_crashed() {
                world.reboot();
                settle(&world, &name);
            }
            world.no_crash();
            if nature.ends_well() {
                model = Some(world.release_name(&name));
            }
            assert_eq!(world.current(), model, "seed {seed}, step {number}, {name} {nature:?}");
        }
        reverts += world.history().entries().iter().filter(|entry| entry.result == Outcome::Reverted).count();
    }
    println!("{reverts} reverts");
    assert!(reverts >= 150, "only {reverts} reverts happened");
}

#[test]
fn p9_a_bad_release_is_tried_once_until_the_state_has_been_elsewhere() {
    let world = World::default();
    world.knows("a", Nature::Good);
    world.knows("b", Nature::Unhealthy);
    settle(&world, "a");
    for _ in 0..50 {
        settle(&world, "b");
    }
    assert_eq!(world.starts_of("b"), 1);
    settle(&world, "a");
    settle(&world, "b");
    assert_eq!(world.starts_of("b"), 2, "naming it again after something else is a new decision");
}

/// Hosts whose whole life is lived through, twice each.
const SEEDS: u64 = 200;

/// Moments at which a newer state may take over, and what is known of the version that gives way.
const SAFE_POINTS: [(&str, Nature); 7] = [
    ("fetch", Nature::Good),
    ("prepare", Nature::Good),
    ("prepare", Nature::HangingStep),
    ("pause", Nature::BusyStep),
    ("pause", Nature::Locked),
    ("ready", Nature::Good),
    ("verify", Nature::Unhealthy),
];

#[test]
fn p9_a_newer_state_takes_over_at_each_safe_point_and_the_revert_target_stays() {
    for (moment, nature) in SAFE_POINTS {
        for last in [Nature::Good, Nature::Unhealthy, Nature::BadStep] {
            let world = World::default();
            world.knows("a", Nature::Good);
            world.knows("b", nature);
            world.knows("c", last);
            settle(&world, "a");
            let tick = world.tick_with_edit(&world.wants("b"), moment, &world.wants("c")).unwrap();
            let story = format!("{nature:?} at {moment}, then {last:?}");
            assert!(!world.edit_is_left(), "{story}: its moment never came");
            let Tick::Attempted(entry) = tick else { panic!("{story}: {tick:?}") };
            assert_eq!(entry.result, Outcome::Superseded, "{story}");
            assert!(!world.is_quarantined("b"), "{story}");
            let half_built = world.has_release("b") && !world.is_prepared(&world.release_name("b"));
            assert!(!half_built, "{story}: something half-built is left");
            settle(&world, "c");
            let expected = if last == Nature::Good { "c" } else { "a" };
            assert_eq!(world.serving(), Some(world.release_name(expected)), "{story}");
            check_at_rest(&world, "c", &story);
        }
    }
}

#[test]
fn p9_a_migration_is_not_interrupted_and_nothing_after_it_starts() {
    let world = World::default();
    world.knows("x", Nature::Good);
    world.knows("a", Nature::Good);
    world.knows("c", Nature::Good);
    settle(&world, "x");
    let tick = world.tick_with_edit(&world.wants("a"), "migrate", &world.wants("c")).unwrap();
    let Tick::Attempted(entry) = tick else { panic!("{tick:?}") };
    assert_eq!((entry.result, world.runs("a", "migrate")), (Outcome::Superseded, 1));
    assert!(world.is_prepared(&world.release_name("a")), "what was migrated is finished");
    assert_eq!(world.starts_of("a"), 0);
}

#[test]
fn a_crash_while_a_newer_state_takes_over_converges_to_the_newer_state() {
    let mut states = 0;
    for (moment, nature) in SAFE_POINTS {
        for at in 0.. {
            let world = World::default();
            world.knows("a", Nature::Good);
            world.knows("b", nature);
            world.knows("c", Nature::Good);
            settle(&world, "a");
            world.crash_after(at, at % 3);
            drop(world.tick_with_edit(&world.wants("b"), moment, &world.wants("c")));
            world.edit_is_left();
            settle(&world, "c");
            let crashed = world.has_crashed();
            world.reboot();
            let story = format!("{nature:?} at {moment}, crash at write {at}");
            check_always(&world, &story);
            settle(&world, "c");
            check_at_rest(&world, "c", &story);
            states += 1;
            if !crashed {
                break;
            }
        }
    }
    println!("{states} crash states");
    assert!(states >= 120, "only {states} crash states were reached");
}

#[test]
fn what_says_that_it_may_work_later_is_tried_three_times_and_never_quarantined() {
    for (nature, step) in [(Nature::BusyStep, "prepare"), (Nature::Locked, "migrate")] {
        let world = World::default();
        world.knows("a", Nature::Good);
        world.knows("b", nature);
        settle(&world, "a");
        settle(&world, "b");
        assert_eq!(world.runs("b", step), 3, "{nature:?}");
        assert_eq!(world.serving(), Some(world.release_name("b")), "{nature:?}");
        assert!(!world.is_quarantined("b"));
    }
}

#[test]
fn a_failing_step_has_three_tries_and_a_failing_migration_one() {
    for (nature, step, tries) in [(Nature::BadStep, "prepare", 3), (Nature::BadMigration, "migrate", 1)] {
        let world = World::default();
        world.knows("a", Nature::Good);
        world.knows("b", nature);
        settle(&world, "a");
        for _ in 0..5 {
            settle(&world, "b");
        }
        assert_eq!(world.runs("b", step), tries, "{nature:?}");
        assert!(world.is_quarantined("b"), "{nature:?}");
        assert_eq!(world.serving(), Some(world.release_name("a")));
    }
}

#[test]
fn an_after_step_runs_once_and_its_failure_is_said_and_reverts_nothing() {
    let world = World::default();
    world.knows("a", Nature::Good);
    world.knows("b", Nature::BadAfter);
    settle(&world, "a");
    for _ in 0..10 {
        settle(&world, "b");
    }
    assert_eq!((world.runs("a", "after"), world.runs("b", "after")), (1, 1));
    assert_eq!(world.serving(), Some(world.release_name("b")));
    let history = world.history();
    let last = history.last().unwrap();
    assert_eq!(last.result, Outcome::Healthy);
    assert!(matches!(&last.after, Some(After::Failed(failure)) if failure.reason == "StepFailed"));
    world.kill();
    settle(&world, "b");
    assert_eq!(world.serving(), Some(world.release_name("b")));
    assert_eq!(world.runs("b", "after"), 1, "healing runs no step");
}

#[test]
fn a_crash_never_runs_the_after_steps_of_an_attempt_twice() {
    for at in 0..20 {
        let world = World::default();
        world.knows("a", Nature::Good);
        world.crash_after(at, 2);
        settle(&world, "a");
        world.reboot();
        settle(&world, "a");
        assert!(world.runs("a", "after") <= 1, "crash at write {at}");
    }
}

#[test]
fn a_manager_that_is_down_costs_nothing_that_runs_and_quarantines_nothing() {
    let world = World::default();
    world.knows("a", Nature::Good);
    world.knows("b", Nature::Good);
    settle(&world, "a");
    world.manager_is_down(true);
    for row in 1..=3_u64 {
        let Ok(Tick::Attempted(entry)) = world.tick(&world.wants("b")) else { panic!("no attempt") };
        assert_eq!((entry.result, entry.stage < Stage::Switching), (Outcome::Failed, true));
        let (low, high) = (8_000 << (row - 1), 12_000 << (row - 1));
        assert!((low..=high).contains(&entry.retry_in_ms.unwrap()), "{:?} in row {row}", entry.retry_in_ms);
        assert_eq!(world.serving(), Some(world.release_name("a")));
    }
    assert!(!world.is_quarantined("b"));
    world.manager_is_down(false);
    settle(&world, "b");
    assert_eq!(world.serving(), Some(world.release_name("b")));
}

#[test]
fn a_second_crash_in_the_same_stage_is_held_until_the_state_has_been_elsewhere() {
    let world = World::default();
    world.knows("a", Nature::Good);
    world.knows("b", Nature::Good);
    settle(&world, "a");
    for _ in 0..2 {
        world.power_off_at("prepare");
        settle(&world, "b");
        assert!(world.has_crashed());
        world.reboot();
    }
    settle(&world, "b");
    let held = world.tick(&world.wants("b"));
    assert!(
        matches!(&held, Ok(Tick::Held(Hold::Interrupted(held))) if held.stage == Stage::Preparing),
        "{held:?}"
    );
    assert_eq!(world.serving(), Some(world.release_name("a")), "what runs was brought back after the reboot");
    settle(&world, "a");
    settle(&world, "b");
    assert_eq!(world.serving(), Some(world.release_name("b")));
}

/// One host's life: edits, some of them in the middle of an attempt, crashes, full disks, a manager that is down.
/// Then the faults stop. Returns what is on record at the end.
fn life(seed: u64) -> String {
    use Nature::{BadAfter, BadMigration, BadStart, BadStep, BusyStep, Good, Locked, Unhealthy};
    fastrand::seed(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let natures = [Good, Good, Good, BusyStep, Locked, BadAfter, BadStep, BadMigration, BadStart, Unhealthy];
    let world = World::default();
    world.wall_clock_jumps(seed);
    let version = |random: &mut fastrand::Rng| {
        let name = format!("v{}", random.u8(0..6));
        world.knows(&name, *random.choice(natures.iter()).expect("not empty"));
        name
    };
    let mut wanted = version(&mut random);
    for _ in 0..random.usize(4..12) {
        match random.u8(0..8) {
            0 => world.crash_after(random.usize(0..16), random.usize(0..3)),
            1 => world.disk_full_after(random.usize(0..12)),
            2 => world.manager_is_down(true),
            3 => world.kill(),
            _ => {}
        }
        let next = version(&mut random);
        if random.bool() {
            let (moment, _) = SAFE_POINTS[random.usize(0..SAFE_POINTS.len())];
            drop(world.tick_with_edit(&world.wants(&wanted), moment, &world.wants(&next)));
            world.edit_is_left();
        } else {
            settle(&world, &wanted);
        }
        wanted = next;
        settle(&world, &wanted);
        world.reboot();
        world.disk_has_room();
        world.manager_is_down(false);
        // A first release that crashed twice after its switch counts as failed: then nothing is linked.
        if !world.history().healthy().is_empty() {
            check_always(&world, &format!("seed {seed}"));
        }
    }
    let story = format!("seed {seed}, wanting {wanted} {:?}", world.nature(&wanted));
    for _ in 0..10 {
        settle(&world, &wanted);
    }
    if world.is_quarantined(&wanted) || world.is_held(&wanted) {
        let proved = world.history().healthy().first().map(|release| release.name.clone());
        assert_eq!(world.serving(), proved, "{story}: what runs is not what proved healthy last");
    } else {
        check_at_rest(&world, &wanted, &story);
    }
    world.history().entries().iter().map(|entry| format!("{entry:?}\n")).collect()
}

#[test]
fn p25_when_the_faults_stop_every_host_comes_to_rest_and_the_same_seed_is_the_same_life() {
    let mut attempts = 0;
    for seed in 0..SEEDS {
        let once = life(seed);
        attempts += once.lines().count();
        assert!(once == life(seed), "seed {seed} lived twice differs");
    }
    println!("{SEEDS} hosts, {attempts} attempts");
    assert!(attempts > 1_500, "only {attempts} attempts");
}

#[test]
fn p20_a_wall_clock_that_jumps_causes_no_deploy_and_no_revert() {
    for seed in 0..200 {
        let world = World::default();
        world.wall_clock_jumps(seed);
        for (name, nature) in [("a", Nature::Good), ("b", Nature::BusyStep), ("c", Nature::Unhealthy)] {
            world.knows(name, nature);
            settle(&world, name);
            let (before, starts) = (world.writes(), world.starts_of(name));
            for _ in 0..20 {
                settle(&world, name);
            }
            assert_eq!((world.writes(), world.starts_of(name)), (before, starts), "seed {seed}, {name}");
        }
        let results: Vec<_> = world.history().entries().iter().map(|entry| entry.result).collect();
        assert_eq!(results, [Outcome::Healthy, Outcome::Healthy, Outcome::Reverted], "seed {seed}");
        assert_eq!(world.serving(), Some(world.release_name("b")), "seed {seed}");
    }
}

#[test]
fn p11_at_the_goal_nothing_is_written_started_or_run() {
    let world = World::default();
    world.knows("a", Nature::Good);
    settle(&world, "a");
    let before = (world.writes(), world.starts_of("a"), world.steps());
    for _ in 0..1_000 {
        assert_eq!(world.tick(&world.wants("a")).unwrap(), Tick::InSync { env_changed: false });
    }
    assert_eq!((world.writes(), world.starts_of("a"), world.steps()), before);
}

#[test]
fn a_release_that_proved_healthy_is_not_stepped_again() {
    let world = World::default();
    world.knows("a", Nature::Good);
    world.knows("b", Nature::Good);
    for name in ["a", "b"] {
        settle(&world, name);
    }
    let steps = world.runs("a", "prepare");
    settle(&world, "a");
    assert_eq!(world.runs("a", "prepare"), steps, "rollback to a release on disk is switch and start");
    assert_eq!(world.current(), Some(world.release_name("a")));
}

#[test]
fn a_stopped_release_is_started_again_and_its_failure_reverts_nothing() {
    let world = World::default();
    world.knows("a", Nature::Good);
    settle(&world, "a");
    world.kill();
    settle(&world, "a");
    assert_eq!(world.serving(), Some(world.release_name("a")));
    assert!(!world.is_quarantined("a"));
}

#[test]
fn when_the_old_release_fails_as_well_landfall_stops_and_says_so() {
    let world = World::default();
    world.knows("a", Nature::Good);
    world.knows("b", Nature::Unhealthy);
    settle(&world, "a");
    world.becomes("a", Nature::Unhealthy);
    settle(&world, "b");
    let history: History = world.history();
    let last = history.entries().iter().rev().find(|entry| entry.result == Outcome::Failed).unwrap();
    assert_eq!(last.failure.as_ref().unwrap().reason, "RevertFailed");
    assert!(world.starts_of("b") == 1, "no going to and fro");
}

#[test]
fn a_full_disk_never_costs_the_running_release() {
    for (title, versions) in scenarios().into_iter().filter(|(_, versions)| versions.len() > 1) {
        let (last, before) = versions.split_last().expect("a scenario has a version");
        for at in 0..40 {
            let world = World::default();
            for (name, nature) in &versions {
                world.knows(name, *nature);
            }
            for (name, _) in before {
                settle(&world, name);
            }
            world.disk_full_after(at);
            for _ in 0..3 {
                drop(world.tick(&world.wants(last.0)));
                check_always(&world, title);
            }
            world.disk_has_room();
            settle(&world, last.0);
            let story = format!("{title}, disk full at write {at}");
            check_at_rest(&world, last.0, &story);
        }
    }
}

/// Ticks with the app absent until it is.
fn settle_absent(world: &World) {
    for _ in 0..4 {
        if matches!(world.tick(&absent()), Ok(Tick::Removed | Tick::Held(_))) {
            return;
        }
    }
}

fn absent() -> Desired {
    Desired::Absent
}

#[test]
fn a_crash_at_any_write_of_a_removal_leaves_the_app_gone_and_it_comes_back_when_it_is_wanted_again() {
    let mut states = 0;
    for wanted_again in [false, true] {
        for at in 0.. {
            let mut crashed = false;
            for torn in 0..3 {
                let world = World::default();
                world.knows("a", Nature::Good);
                world.knows("b", Nature::Unhealthy);
                settle(&world, "a");
                settle(&world, "b");
                world.crash_after(at, torn);
                settle_absent(&world);
                crashed = world.has_crashed();
                world.reboot();
                let story = format!("removal, crash at write {at} ({torn})");
                if wanted_again {
                    settle(&world, "a");
                    check_at_rest(&world, "a", &story);
                }
                settle_absent(&world);
                assert_eq!((world.current(), world.serving()), (None, None), "{story}");
                assert!(!world.has_journal(), "{story}");
                assert_eq!(
                    world.history().last().map(|entry| entry.result),
                    Some(Outcome::Removed),
                    "{story}"
                );
                let writes = world.writes();
                assert!(matches!(world.tick(&absent()), Ok(Tick::Removed)), "{story}");
                assert_eq!(world.writes(), writes, "{story}: a tick of an absent app wrote");
                settle(&world, "a");
                check_at_rest(&world, "a", &story);
                states += 1;
            }
            if !crashed {
                break;
            }
        }
    }
    assert!(states >= 30, "only {states} crash states were reached");
}

#[test]
fn suspended_and_unnamed_apps_are_left_alone() {
    let world = World::default();
    world.knows("a", Nature::Good);
    settle(&world, "a");
    let writes = world.writes();
    for desired in [
        Desired::NotInState,
        Desired::Invalid("unknown key".into()),
        Desired::Suspended {
            target: Some(world.target("a")),
            why: Suspension {
                reason: "disk swap".into(),
                by: "lee".into(),
                since: None,
                until: None,
                place: Place::State,
            },
        },
    ] {
        assert!(matches!(world.tick(&desired), Ok(Tick::Held(_))));
    }
    assert_eq!(world.writes(), writes);
    assert_eq!(world.serving(), Some(world.release_name("a")));
}
