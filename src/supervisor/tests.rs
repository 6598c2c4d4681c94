//! Restarts, pauses and health, with tasks that do what a test wants.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::channel;

use tokio::time::{Instant, sleep};

use super::*;

fn supervisor(rules: TaskRules) -> TaskSupervisor {
    TaskSupervisor::new(Handle::current(), rules)
}

fn status(supervisor: &TaskSupervisor, kind: TaskKind) -> TaskStatus {
    supervisor.status().into_iter().find(|status| status.kind == kind).unwrap()
}

/// Waits for what happens on another thread.
async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if done() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_begins_again_after_pauses_that_double_and_is_a_fault_from_the_fifth_time_on() {
    for panics in [true, false] {
        let supervisor = supervisor(TaskRules::default());
        let (runs, heals, until) = (Arc::new(Mutex::new(vec![])), Arc::default(), CancellationToken::new());
        let (begun, healed): (Arc<Mutex<Vec<Instant>>>, Arc<AtomicBool>) =
            (Arc::clone(&runs), Arc::clone(&heals));
        let name = TaskName::of(TaskKind::KeyRefresher, "idp");
        let task = supervisor.spawn(name.clone(), until.clone(), move || {
            let (begun, healed) = (Arc::clone(&begun), Arc::clone(&healed));
            async move {
                begun.lock().unwrap().push(Instant::now());
                if healed.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                assert!(!panics, "as ordered");
            }
        });
        sleep(Duration::from_secs(1)).await; // runs at 0, 100, 300 and 700 ms
        assert_eq!(supervisor.faults(), []);
        assert!(!status(&supervisor, TaskKind::KeyRefresher).up);
        sleep(Duration::from_secs(1)).await; // and at 1,500 ms
        let fault = TaskFault { task: name.clone(), defect: TaskDefect::Failing(5) };
        assert_eq!(fault.to_string(), "key_refresher idp keeps failing: 5 consecutive failures");
        assert_eq!(supervisor.faults(), [fault]);
        sleep(Duration::from_secs(40)).await;
        let moments = runs.lock().unwrap().clone();
        let pauses: Vec<_> = moments.windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        // One good run is not enough, ten seconds are.
        heals.store(true, Ordering::Relaxed);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(supervisor.faults().len(), 1);
        let up = TaskStatus { kind: TaskKind::KeyRefresher, restarts: 10, up: true };
        assert_eq!(status(&supervisor, TaskKind::KeyRefresher), up);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(supervisor.faults(), []);
        until.cancel();
        task.await.unwrap();
        assert_eq!(supervisor.0.tasks().len(), 0, "one that has been told to end is forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_a_good_time_is_a_first_one() {
    let supervisor = supervisor(TaskRules::default());
    let (runs, until) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let begun = Arc::clone(&runs);
    supervisor.spawn(TaskKind::PoolKeeper, until.clone(), move || {
        begun.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(10))
    });
    sleep(Duration::from_secs(100)).await;
    assert_eq!(runs.load(Ordering::Relaxed), 10, "each pause is the first one, of 100 ms");
    assert_eq!(supervisor.faults(), []);
    until.cancel();
}

#[tokio::test]
async fn an_ordered_panic_meets_a_task_wherever_it_is_and_wakes_it_for_that() {
    let failpoints = Failpoints::enabled();
    let supervisor = supervisor(TaskRules { failpoints: failpoints.clone(), ..TaskRules::default() });
    let (until_cancelled, dropped) = (CancellationToken::new(), CancellationToken::new());
    let guard = dropped.clone();
    supervisor.spawn(TaskKind::Reloader, until_cancelled.clone(), move || {
        let under_way = guard.clone().drop_guard();
        async move {
            let _under_way = under_way;
            std::future::pending::<()>().await;
        }
    });
    tokio::task::yield_now().await;
    failpoints.order(TaskKind::PoolKeeper, 1);
    failpoints.order(TaskKind::Reloader, 1);
    dropped.cancelled().await;
    until("a restart", || status(&supervisor, TaskKind::Reloader).up).await;
    assert_eq!(status(&supervisor, TaskKind::Reloader).restarts, 1);
    assert_eq!((failpoints.ordered(TaskKind::Reloader), failpoints.ordered(TaskKind::PoolKeeper)), (0, 1));
    until_cancelled.cancel();
    // What the service has takes no orders.
    let inert = Failpoints::default();
    inert.order(TaskKind::Reloader, 1);
    assert_eq!(inert.ordered(TaskKind::Reloader), 0);
}

fn impatient() -> TaskRules {
    TaskRules { stuck_after: Duration::from_millis(100), ..TaskRules::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_blocks_its_thread_is_a_fault_as_long_as_it_does() {
    let supervisor = supervisor(impatient());
    let (release, blocked) = channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let until_cancelled = CancellationToken::new();
    supervisor.spawn(TaskKind::Reloader, until_cancelled.clone(), move || {
        let blocked = Arc::clone(&blocked);
        async move {
            let _ = blocked.lock().unwrap().recv();
            std::future::pending::<()>().await;
        }
    });
    until("a fault", || !supervisor.faults().is_empty()).await;
    let fault = supervisor.faults().remove(0);
    assert!(matches!(fault.defect, TaskDefect::Blocked(_)), "{fault:?}");
    assert!(fault.to_string().starts_with("reloader has been blocked for "), "{fault}");
    assert!(!status(&supervisor, TaskKind::Reloader).up);
    release.send(()).unwrap();
    until("the end of it", || supervisor.faults().is_empty()).await;
    assert_eq!(status(&supervisor, TaskKind::Reloader).restarts, 0);
    until_cancelled.cancel();
}

#[tokio::test]
async fn a_thread_that_does_not_answer_is_a_fault_as_long_as_it_does_not() {
    let supervisor = supervisor(impatient());
    let (release, blocked) = channel::<()>();
    let entry = supervisor.register(TaskName::of(TaskKind::SessionThread, 0));
    let heartbeat = entry.heartbeat();
    let until_cancelled = CancellationToken::new();
    let end = until_cancelled.clone();
    let blocked = Arc::new(Mutex::new(blocked));
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(entry.run_thread(&end, || {
            let blocked = Arc::clone(&blocked);
            // Not the task itself: a session that shares the thread.
            tokio::spawn(async move { blocked.lock().unwrap().recv() });
            std::future::pending()
        }));
    });
    until("a fault", || !supervisor.faults().is_empty()).await;
    let fault = supervisor.faults().remove(0);
    assert!(matches!(fault.defect, TaskDefect::Silent(_)), "{fault:?}");
    assert!(fault.to_string().starts_with("session_thread 0 has not answered for "), "{fault}");
    assert!(!heartbeat.is_recent());
    release.send(()).unwrap();
    until("the end of it", || supervisor.faults().is_empty() && heartbeat.is_recent()).await;
    until_cancelled.cancel();
    thread.join().unwrap();
    assert_eq!(supervisor.faults(), []);
}

#[tokio::test]
async fn a_thread_that_dies_stays_a_fault() {
    let supervisor = supervisor(TaskRules::default());
    let entry = supervisor.register(TaskName::of(TaskKind::SessionThread, 1));
    let heartbeat = entry.heartbeat();
    let died = std::thread::spawn(move || {
        let _entry = entry;
        panic!("outside of all that is caught");
    });
    assert!(died.join().is_err());
    assert_eq!(supervisor.faults()[0].to_string(), "session_thread 1 has ended");
    assert!(!heartbeat.is_recent());
}
