//! The budgets of a supervisor: what they are called, how much of each is taken, and what a refusal says. Pure.

use std::fmt;

use orangery_runtime as runtime;
use serde::Serialize;

use crate::error::Error;

/// Something that there is only so much of: see [`Supervisor::budgets`](crate::Supervisor::budgets).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Budget {
    /// Containers that exist or are being made: [`max_containers`](crate::SupervisorBuilder::max_containers).
    Containers,
    /// Further processes in all containers: [`max_processes`](crate::SupervisorBuilder::max_processes).
    Processes,
    /// Containers that are being made at this moment: [`max_creations`](crate::SupervisorBuilder::max_creations). Nobody is
    /// refused for it: who is admitted waits for its turn.
    Creations,
    /// Callers that wait, for a turn or for room: [`max_waiting`](crate::SupervisorBuilder::max_waiting).
    Waiting,
    /// Bytes that the output of all processes may take at most: the history of each, and what those who capture it may be
    /// behind: [`max_buffer_bytes`](crate::SupervisorBuilder::max_buffer_bytes).
    BufferBytes,
    /// Descriptors of this process: see [`containers_that_fit`](crate::containers_that_fit).
    Descriptors,
    /// Pages of pipes. Limited only for an ordinary user, and only where /proc/sys/fs/pipe-user-pages-hard is not 0.
    PipePages,
}

impl Budget {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Containers,
        Self::Processes,
        Self::Creations,
        Self::Waiting,
        Self::BufferBytes,
        Self::Descriptors,
        Self::PipePages,
    ];

    /// Its name, as the field of a refusal and in the figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Processes => "processes",
            Self::Creations => "creations",
            Self::Waiting => "waiting",
            Self::BufferBytes => "buffer_bytes",
            Self::Descriptors => "descriptors",
            Self::PipePages => "pipe_pages",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Containers => "containers exist or are being made",
            Self::Processes => "further processes exist or are being started",
            Self::Creations => "containers are being made",
            Self::Waiting => "wait already for a turn or for room",
            Self::BufferBytes => "bytes are promised to buffers of output",
            Self::Descriptors => "descriptors are promised to what exists or is being made",
            Self::PipePages => "pages are promised to pipes",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Containers => "wait with `wait_for_room`, or raise `SupervisorBuilder::max_containers`",
            Self::Processes => "wait with `wait_for_room`, or raise `SupervisorBuilder::max_processes`",
            Self::Creations => "wait with `wait_for_room`, or raise `SupervisorBuilder::max_creations`",
            Self::Waiting => "ask again later, or raise `SupervisorBuilder::max_waiting`",
            Self::BufferBytes => {
                "a smaller `SandboxBuilder::ring`, or raise `SupervisorBuilder::max_buffer_bytes`; or wait with `wait_for_room`"
            }
            Self::Descriptors => {
                "raise the limit on open files, such as with `ulimit -n`, or wait with `wait_for_room`"
            }
            Self::PipePages => "raise /proc/sys/fs/pipe-user-pages-hard, or wait with `wait_for_room`",
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much of a budget is taken, and how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BudgetUse {
    /// Which.
    pub budget: Budget,
    /// What is taken or promised.
    pub used: u64,
    /// What there is; `None`: no limit. That of the descriptors is what is left for this supervisor at the moment.
    pub limit: Option<u64>,
}

/// All budgets of a supervisor as they are now.
///
/// ```no_run
/// # fn f(supervisor: orangery::Supervisor) {
/// use orangery::Budget;
/// let containers = supervisor.budgets().of(Budget::Containers);
/// println!("{} of {:?}", containers.used, containers.limit);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Budgets {
    all: [BudgetUse; Budget::ALL.len()],
}

impl Budgets {
    pub(super) fn new(used: &Amounts, limits: &Amounts) -> Self {
        Self { all: Budget::ALL.map(|budget| used.beside(limits, budget)) }
    }

    /// One of them.
    #[must_use]
    pub fn of(&self, budget: Budget) -> BudgetUse {
        self.all[budget as usize]
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = BudgetUse> + '_ {
        self.all.iter().copied()
    }
}

/// So much of each budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts([u64; Budget::ALL.len()]);

impl Amounts {
    /// As much as there can be of each.
    pub(crate) const NO_LIMIT: Self = Self([u64::MAX; Budget::ALL.len()]);

    pub(crate) fn get(&self, budget: Budget) -> u64 {
        self.0[budget as usize]
    }

    #[must_use]
    pub(crate) fn with(mut self, budget: Budget, amount: u64) -> Self {
        self.0[budget as usize] = amount;
        self
    }

    #[must_use]
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(mine, more)| *mine = mine.saturating_add(more));
        self
    }

    #[must_use]
    pub(crate) fn less(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(mine, less)| *mine = mine.saturating_sub(less));
        self
    }

    /// The first budget of which there is not so much more below `limits`.
    pub(super) fn lacks(&self, more: &Self, limits: &Self) -> Option<Budget> {
        let fits = |budget: &Budget| {
            let more = more.get(*budget);
            more == 0 || self.get(*budget).checked_add(more).is_some_and(|sum| sum <= limits.get(*budget))
        };
        Budget::ALL.into_iter().find(|budget| !fits(budget))
    }

    /// The first budget of which both have something.
    pub(super) fn first_of(&self, other: &Self) -> Option<Budget> {
        Budget::ALL.into_iter().find(|budget| self.get(*budget) > 0 && other.get(*budget) > 0)
    }

    fn beside(&self, limits: &Self, budget: Budget) -> BudgetUse {
        let limit = Some(limits.get(budget)).filter(|limit| *limit != u64::MAX);
        BudgetUse { budget, used: self.get(budget), limit }
    }

    /// The refusal of `more` of that budget.
    pub(super) fn refusal(&self, budget: Budget, more: &Self, limits: &Self) -> Error {
        let spent = self.beside(limits, budget);
        let (used, limit) = (spent.used, spent.limit.unwrap_or(u64::MAX));
        let of = match budget {
            Budget::Descriptors => "what is left of RLIMIT_NOFILE",
            _ => "this supervisor's limit",
        };
        let what = format!("{used} {}; {} more do not fit into {of}, {limit}", budget.what(), more.get(budget));
        let error = runtime::Error::new(runtime::ErrorKind::Exhausted, what);
        Error::from(error.with_field(budget.name()).with_hint(budget.hint())).with_spent(spent)
    }
}
