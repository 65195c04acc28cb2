//! Clients, supervisors and the reaper at one workspace, in any order and with deaths anywhere: real transactions, real locks, and
//! programs that take the steps which the client library and the supervisor take.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
};

use proptest::{prelude::*, test_runner::Config};

use super::{
    Carried, MachineRole, NewMachine, Registry, ResetTarget, Tenure, WorkspaceState,
    tests::{new_workspace, shape},
};
use crate::{Dirs, FileLock, LockState, MachineId, ProcessIdentity, Settings, StoreError, WorkspaceId, reap, start::SUPERVISOR_LOCK};

/// What a client does to the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Start,
    Reset,
    Stop,
    Delete,
}

/// How a client's operation came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    Killed,
}

#[derive(Debug)]
enum Stage {
    WaitForTurn,
    Begin,
    Place { tenure: Tenure, old: Option<MachineId> },
    Await { tenure: Tenure, machine: MachineId, old: Option<MachineId> },
    GiveUp { tenure: Tenure, machine: MachineId },
    AwaitEnd { machine: MachineId },
    Erase { machine: Option<MachineId> },
    Over(Outcome),
}

#[derive(Debug)]
struct Client {
    operation: Operation,
    /// A `delete --force` does not wait for its turn.
    patient: bool,
    turn: Option<FileLock>,
    stage: Stage,
}

/// A supervisor with its machine: what it does is done here, its life and its lock are a process's.
#[derive(Debug)]
struct Supervisor {
    process: Child,
    adopted: bool,
    asked_to_end: bool,
    /// Its machine cannot be made.
    broken: bool,
}

impl Supervisor {
    fn lives(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Ends it as a signal does: its lock is free, and nothing is written.
    fn kill(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
enum Event {
    Client(usize),
    KillClient(usize),
    Supervisor(usize),
    KillSupervisor(usize),
    Reap,
}

struct World {
    _home: tempfile::TempDir,
    dirs: Dirs,
    registry: Registry,
    id: WorkspaceId,
    clients: Vec<Client>,
    supervisors: BTreeMap<MachineId, Supervisor>,
    broken: Vec<bool>,
    /// Nobody has died, and nobody wished for anything but a machine.
    peaceful: bool,
    /// Who began last.
    last: Option<usize>,
}

impl World {
    /// A workspace that runs, and clients that are about to do something to it.
    fn new(operations: &[(Operation, bool)], broken: &[bool]) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(home.path());
        let mut registry = Registry::open(&dirs).expect("opens");
        let new = new_workspace();
        let turn = take_turn(&dirs, &new.id).expect("nobody else is there");
        let tenure = registry.insert_workspace(&new).expect("free");
        let clients = operations.iter().map(|(operation, patient)| Client {
            operation: *operation,
            patient: *patient || *operation != Operation::Delete,
            turn: None,
            stage: Stage::WaitForTurn,
        });
        let clients = clients.collect();
        let mut world = Self {
            _home: home,
            dirs,
            registry,
            id: new.id,
            clients,
            supervisors: BTreeMap::new(),
            broken: broken.to_vec(),
            peaceful: true,
            last: None,
        };
        let machine = world.start_machine(&tenure, false).expect("its own");
        world.supervisor(&machine);
        drop(turn);
        world
    }

    fn start_machine(&mut self, tenure: &Tenure, broken: bool) -> Result<MachineId, StoreError> {
        let id = MachineId::random();
        let folder = self.dirs.machine(&id);
        fs::create_dir_all(&folder).expect("writable");
        let lock = FileLock::acquire(&folder.join(SUPERVISOR_LOCK)).expect("free");
        let machine = NewMachine { id: id.clone(), shape: shape(), role: MachineRole::Workspace, tenure: Some(tenure.clone()) };
        match self.registry.insert_machine(&machine, &folder, 0) {
            Ok(()) => {
                let process = Command::new("sleep").arg("1000").stdin(Stdio::from(OwnedFd::from(lock))).spawn().expect("starts");
                let identity = ProcessIdentity::of(process.id()).expect("runs");
                self.registry.set_supervisor(&id, &identity).expect("writable");
                self.supervisors.insert(id.clone(), Supervisor { process, adopted: false, asked_to_end: false, broken });
                Ok(id)
            }
            Err(error) => {
                fs::remove_dir_all(folder).expect("its own");
                Err(error)
            }
        }
    }

    fn machine_of_workspace(&self) -> Option<MachineId> {
        self.registry.workspace(&self.id).ok().and_then(|workspace| workspace.machine)
    }

    fn kill(&mut self, machine: &MachineId) {
        self.supervisors.get_mut(machine).expect("known").kill();
    }

    fn living(&mut self) -> Vec<MachineId> {
        self.supervisors.iter_mut().filter_map(|(id, supervisor)| supervisor.lives().then(|| id.clone())).collect()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client(number) if !self.clients.is_empty() => self.client(number % self.clients.len()),
            Event::KillClient(number) if !self.clients.is_empty() => {
                let at = number % self.clients.len();
                let client = &mut self.clients[at];
                client.turn = None;
                if !matches!(client.stage, Stage::Over(_)) {
                    client.stage = Stage::Over(Outcome::Killed);
                    self.peaceful = false;
                }
            }
            Event::Supervisor(number) => {
                let machines = self.living();
                let machine = machines.get(number % machines.len().max(1));
                machine.into_iter().for_each(|machine| self.supervisor(machine));
            }
            Event::KillSupervisor(number) => {
                let machines = self.living();
                let Some(machine) = machines.get(number % machines.len().max(1)) else { return };
                self.peaceful = false;
                self.kill(machine);
            }
            Event::Reap => look(&self.dirs, &mut self.registry),
            Event::Client(_) | Event::KillClient(_) => {}
        }
    }

    /// Lets a supervisor take its next step: adopt, or look whether it is wanted, or end.
    fn supervisor(&mut self, id: &MachineId) {
        if self.registry.machine(id).expect("readable").is_none() {
            // Whoever removed the row has killed it; the signal is on its way.
            return self.kill(id);
        }
        let supervisor = &self.supervisors[id];
        let waiting = self.registry.machine(id).expect("readable").and_then(|machine| machine.workspace);
        let end = if !supervisor.adopted {
            let workspace = waiting.expect("it was started for one");
            if supervisor.broken { true } else { self.registry.adopt(id, &workspace).is_err() }
        } else {
            supervisor.asked_to_end || self.machine_of_workspace().as_ref() != Some(id)
        };
        if !end {
            self.supervisors.get_mut(id).expect("it lives").adopted = true;
            return;
        }
        let _ = self.registry.lose_machine(&self.dirs, &self.id.clone(), id, "ended").expect("writable");
        let record = self.registry.machine(id).expect("readable").expect("it has a row until here");
        self.registry.retire_machine(&self.dirs, &record).expect("removes");
        self.kill(id);
    }

    /// Takes a machine away whose supervisor has died or is killed for it.
    fn bury(&mut self, id: &MachineId) {
        self.kill(id);
        if let Some(record) = self.registry.machine(id).expect("readable") {
            self.registry.retire_machine(&self.dirs, &record).expect("removes");
        }
    }

    fn client(&mut self, number: usize) {
        let Client { operation, patient, .. } = self.clients[number];
        let stage = std::mem::replace(&mut self.clients[number].stage, Stage::WaitForTurn);
        let next = match stage {
            Stage::WaitForTurn => match take_turn(&self.dirs, &self.id) {
                Some(turn) => {
                    self.clients[number].turn = Some(turn);
                    Stage::Begin
                }
                None if !patient => Stage::Begin,
                None => Stage::WaitForTurn,
            },
            Stage::Begin => {
                let next = self.begin(operation);
                self.peaceful &= matches!(operation, Operation::Start | Operation::Reset);
                if matches!(next, Stage::Place { .. }) {
                    self.last = Some(number);
                }
                next
            }
            Stage::Place { tenure, old } => {
                let broken = self.broken.pop().unwrap_or(false);
                self.peaceful &= !broken;
                match self.start_machine(&tenure, broken) {
                    Ok(machine) => Stage::Await { tenure, machine, old },
                    Err(error) => {
                        assert!(matches!(error, StoreError::Overtaken { .. } | StoreError::WorkspaceNotFound { .. }), "{error}");
                        Stage::Over(Outcome::Refused)
                    }
                }
            }
            Stage::Await { tenure, machine, old } => {
                let supervisor = self.supervisors.get_mut(&machine).expect("known");
                match (supervisor.adopted, supervisor.lives()) {
                    (true, _) => {
                        if let Some(old) = old {
                            // It is told, and ends by itself.
                            self.supervisors.get_mut(&old).expect("known").asked_to_end = true;
                        }
                        Stage::Over(Outcome::Done)
                    }
                    (false, true) => Stage::Await { tenure, machine, old },
                    (false, false) => Stage::GiveUp { tenure, machine },
                }
            }
            Stage::GiveUp { tenure, machine } => {
                self.bury(&machine);
                self.registry.abandon(&tenure, "could not be started").expect("writable");
                Stage::Over(Outcome::Refused)
            }
            Stage::AwaitEnd { machine } if self.supervisors.get_mut(&machine).expect("known").lives() => Stage::AwaitEnd { machine },
            Stage::AwaitEnd { .. } => {
                look(&self.dirs, &mut self.registry);
                Stage::Over(Outcome::Done)
            }
            Stage::Erase { machine } => {
                if let Some(machine) = machine {
                    self.bury(&machine);
                }
                self.registry.erase_workspace(&self.dirs, &self.id.clone()).expect("removes");
                Stage::Over(Outcome::Done)
            }
            Stage::Over(outcome) => Stage::Over(outcome),
        };
        if matches!(next, Stage::Over(_)) {
            self.clients[number].turn = None;
        }
        self.clients[number].stage = next;
    }

    fn begin(&mut self, operation: Operation) -> Stage {
        let id = self.id.clone();
        let refused = |error: StoreError| {
            assert!(matches!(error, StoreError::WrongState { .. } | StoreError::WorkspaceNotFound { .. }), "{error}");
            Stage::Over(Outcome::Refused)
        };
        match operation {
            Operation::Start => match self.registry.begin_start(&id) {
                Ok(tenure) => Stage::Place { tenure, old: None },
                Err(error) => refused(error),
            },
            Operation::Reset => {
                let target = ResetTarget { root_layer: None, workspace_layer: None, carried: Carried::default() };
                match self.registry.begin_reset(&id, &target) {
                    Ok((tenure, old)) => Stage::Place { tenure, old },
                    Err(error) => refused(error),
                }
            }
            Operation::Stop => match self.machine_of_workspace() {
                Some(machine) => {
                    self.supervisors.get_mut(&machine).expect("known").asked_to_end = true;
                    Stage::AwaitEnd { machine }
                }
                None => Stage::Over(Outcome::Refused),
            },
            Operation::Delete => match self.registry.begin_delete(&id) {
                Ok(machine) => Stage::Erase { machine },
                Err(error) => refused(error),
            },
        }
    }

    /// What holds at every moment.
    fn check(&mut self) {
        let Ok(workspace) = self.registry.workspace(&self.id) else { return };
        if workspace.state == WorkspaceState::Stopped {
            assert_eq!(workspace.machine, None, "what is stopped has no machine");
        }
        if let (WorkspaceState::Running, Some(machine)) = (workspace.state, &workspace.machine) {
            assert!(self.supervisors[machine].adopted, "it runs on a machine that took it");
        }
    }

    /// Lets everybody who lives go on to the end, and looks at what is left.
    fn finish(mut self) {
        for round in 0.. {
            assert!(round < 200, "somebody waits for ever: {:?}", self.clients);
            for number in 0..self.clients.len() {
                self.client(number);
            }
            self.living().iter().for_each(|machine| self.supervisor(machine));
            self.check();
            if self.clients.iter().all(|client| matches!(client.stage, Stage::Over(_))) {
                break;
            }
        }
        // A machine that nobody asked to adopt ends when its time is over; here, once everybody is gone. A signal takes a moment.
        for _ in 0..200 {
            self.living().iter().for_each(|machine| self.supervisor(machine));
            look(&self.dirs, &mut self.registry);
            let rows = self.registry.machines().expect("readable").len();
            let wanted = usize::from(self.registry.workspace(&self.id).is_ok_and(|workspace| workspace.state == WorkspaceState::Running));
            if rows == wanted && self.living().len() == wanted {
                break;
            }
        }
        if let Some(last) = self.last.filter(|_| self.peaceful) {
            assert!(matches!(self.clients[last].stage, Stage::Over(Outcome::Done)), "who begins last wins: {:?}", self.clients);
        }
        let rows = self.registry.machines().expect("readable");
        match self.registry.workspace(&self.id) {
            Ok(workspace) => match workspace.state {
                WorkspaceState::Running => {
                    let machine = workspace.machine.expect("it runs on one");
                    assert!(self.supervisors.get_mut(&machine).expect("known").lives(), "its machine lives");
                    assert_eq!(rows.iter().map(|row| &row.id).collect::<Vec<_>>(), [&machine], "and is the only one");
                }
                WorkspaceState::Stopped => assert!(rows.is_empty(), "a stopped workspace has no machine: {rows:?}"),
                state @ (WorkspaceState::Creating | WorkspaceState::Starting | WorkspaceState::Stopping | WorkspaceState::Deleting) => {
                    panic!("it is left between two states: {state:?}")
                }
            },
            Err(_) => {
                assert!(rows.is_empty(), "a machine of a workspace that is gone: {rows:?}");
                let deleted = |client: &Client| {
                    client.operation == Operation::Delete && matches!(client.stage, Stage::Over(Outcome::Done | Outcome::Killed))
                };
                assert!(self.clients.iter().any(deleted), "nobody deleted it");
            }
        }
        let left = names(&self.dirs.machines());
        assert_eq!(left.len(), rows.len(), "folders of machines are left: {left:?}");
    }
}

/// Does what every client command does first.
fn look(dirs: &Dirs, registry: &mut Registry) {
    reap(dirs, registry, &Settings::default()).expect("reaps");
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn take_turn(dirs: &Dirs, id: &WorkspaceId) -> Option<FileLock> {
    let path = dirs.lifecycle(id);
    fs::create_dir_all(path.parent().expect("in a folder")).expect("writable");
    FileLock::try_acquire(&path).expect("opens")
}

fn operation() -> impl Strategy<Value = (Operation, bool)> {
    let kinds = [Operation::Start, Operation::Reset, Operation::Reset, Operation::Stop, Operation::Delete];
    (prop::sample::select(kinds.to_vec()), any::<bool>())
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..4usize).prop_map(Event::Client),
        1 => (0..4usize).prop_map(Event::KillClient),
        6 => (0..4usize).prop_map(Event::Supervisor),
        1 => (0..4usize).prop_map(Event::KillSupervisor),
        2 => Just(Event::Reap),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 200, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_clients_do_to_a_workspace_at_once_one_wins_and_nothing_is_left(
        operations in prop::collection::vec(operation(), 1..5),
        broken in prop::collection::vec(prop::bool::weighted(0.2), 0..4),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut world = World::new(&operations, &broken);
        for event in events {
            world.happen(event);
            world.check();
        }
        world.finish();
    }
}

#[test]
fn a_client_that_was_overtaken_ends_nothing_of_the_one_that_overtook_it() {
    let mut world = World::new(&[], &[]);
    let id = world.id.clone();
    let target = ResetTarget { root_layer: None, workspace_layer: None, carried: Carried::default() };
    let (first, _) = world.registry.begin_reset(&id, &target).expect("runs");
    let machine = world.start_machine(&first, false).expect("its turn");
    world.supervisor(&machine);
    let (second, old) = world.registry.begin_reset(&id, &target).expect("runs again");
    assert_eq!(old, Some(machine.clone()));
    let newer = world.start_machine(&second, false).expect("its turn");
    // The first one heard of its machine's end, and gives up.
    world.registry.abandon(&first, "its machine ended").expect("writable");
    assert_eq!(world.machine_of_workspace(), Some(newer.clone()));
    assert!(matches!(world.registry.put_back(&first, &machine), Err(StoreError::Overtaken { .. })));
    assert!(matches!(world.start_machine(&first, false), Err(StoreError::Overtaken { .. })));
    world.supervisor(&newer);
    assert_eq!(world.registry.workspace(&id).expect("there").state, WorkspaceState::Running);
}

#[test]
fn a_supervisor_that_lost_its_workspace_enters_nothing_into_its_new_life() {
    let mut world = World::new(&[], &[]);
    let id = world.id.clone();
    let machine = world.machine_of_workspace().expect("runs");
    let mut acting = Registry::open(&world.dirs).expect("opens");
    acting.act_for(&machine);
    let sequence = acting.begin_command(&id, &["true".to_owned()], "/workspace").expect("its own");
    let target = ResetTarget { root_layer: None, workspace_layer: None, carried: Carried::default() };
    world.registry.begin_reset(&id, &target).expect("runs");
    assert!(matches!(acting.begin_command(&id, &["true".to_owned()], "/workspace"), Err(StoreError::Overtaken { .. })));
    acting.end_command(&id, sequence, &super::CommandEnd::default()).expect("without effect");
    assert!(world.registry.commands(&id, 10).expect("readable").is_empty());
    let events = world.registry.events_after(&id, 0, 100).expect("readable");
    assert_eq!(events.iter().filter(|event| event.kind.starts_with("command")).count(), 1, "its start, before the reset");
}

#[test]
fn a_machine_whose_folder_was_removed_by_hand_is_not_dead() {
    let mut world = World::new(&[], &[]);
    let machine = world.machine_of_workspace().expect("runs");
    let id = world.id.clone();
    fs::write(world.dirs.layers().join("00000000000000aa.qcow2"), "").expect("writable");
    let layer = super::LayerRecord { id: "00000000000000aa".parse().expect("an id"), parent: None, format: "qcow2".into(), size_bytes: 1 };
    world.registry.put_overlay(&id, super::DiskRole::Workspace, &layer).expect("writable");
    let writer = crate::LayerLock::writer(&world.dirs.layers().join(layer.file_name())).expect("opens").expect("free");
    fs::remove_dir_all(world.dirs.machine(&machine)).expect("there");
    world.kill(&machine);
    let state = |world: &mut World| {
        look(&world.dirs, &mut world.registry);
        world.registry.workspace(&id).expect("there").state
    };
    assert_eq!(state(&mut world), WorkspaceState::Running, "somebody writes its disk");
    drop(writer);
    assert_eq!(state(&mut world), WorkspaceState::Stopped);
}

#[test]
fn a_workspace_in_the_making_is_its_clients_until_that_is_gone() {
    let home = tempfile::tempdir().expect("a folder");
    let dirs = Dirs::under(home.path());
    let mut registry = Registry::open(&dirs).expect("opens");
    let new = new_workspace();
    let turn = take_turn(&dirs, &new.id).expect("free");
    registry.insert_workspace(&new).expect("free");
    look(&dirs, &mut registry);
    assert_eq!(registry.workspace(&new.id).expect("there").state, WorkspaceState::Creating);
    assert_eq!(FileLock::probe(&dirs.lifecycle(&new.id)).expect("looks"), LockState::Held);
    drop(turn);
    look(&dirs, &mut registry);
    assert!(registry.workspace(&new.id).is_err());
    assert!(names(&dirs.workspaces()).is_empty());
}
