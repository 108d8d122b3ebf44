//! Commands over several watchers, in the order of their priorities.

use super::job::{Job, Waiter, Work};
use super::{Effect, Outcome, Refusal, Supervisor, Ticket, Time, WatcherId};
use std::collections::{BTreeSet, VecDeque};

/// What a campaign does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CampaignKind {
    /// Start, one after the other.
    Start,
    /// Stop, all at once.
    Stop,
    /// Stop all, then start one after the other.
    Restart,
    /// Reload, one after the other.
    Reload {
        /// New workers first.
        graceful: bool,
        /// Worker by worker.
        sequential: bool,
    },
    /// Stop all, those on their way out included.
    Close,
}

/// A command over several watchers that is under way.
#[derive(Debug)]
pub struct Campaign {
    ticket: Ticket,
    kind: CampaignKind,
    /// Whose turn is still to come, in order.
    todo: VecDeque<WatcherId>,
    /// Who is at it.
    busy: BTreeSet<WatcherId>,
    /// Who is to be started once all have stopped.
    then_start: Vec<WatcherId>,
    /// The next one's turn does not come before.
    pub(super) resume_at: Time,
    paused_until: Time,
}

impl Campaign {
    /// One watcher has done its part; the next one's turn comes at `next` (when watchers are started in turn).
    pub(super) fn finished(&mut self, id: WatcherId, next: Time) {
        if self.busy.remove(&id) && matches!(self.kind, CampaignKind::Start) {
            self.paused_until = next;
        }
    }
}

impl Supervisor {
    /// Begins a campaign over the watchers of these names; those that are gone are passed over.
    pub(super) fn campaign(
        &mut self,
        effects: &mut Vec<Effect>,
        ticket: Ticket,
        kind: CampaignKind,
        names: &[String],
    ) -> Result<(), Refusal> {
        let mut ids: Vec<WatcherId> = names
            .iter()
            .filter_map(|name| self.names.get(&name.to_lowercase()).copied())
            .collect();
        if kind == CampaignKind::Close {
            ids = self.watchers.keys().copied().collect();
        }
        // Python's sort with reverse=True keeps the order of equals: both orders are stable.
        let priority = |id: &WatcherId| self.watchers.get(id).map_or(0, |w| w.options.priority());
        let mut descending = ids.clone();
        descending.sort_by_key(|id| std::cmp::Reverse(priority(id)));
        let mut ascending = ids;
        ascending.sort_by_key(priority);

        let number = self.next_campaign;
        self.next_campaign += 1;
        let mut campaign = Campaign {
            ticket,
            kind,
            todo: VecDeque::new(),
            busy: BTreeSet::new(),
            then_start: Vec::new(),
            resume_at: Time::NEVER,
            paused_until: self.now,
        };
        match kind {
            CampaignKind::Start | CampaignKind::Reload { .. } => campaign.todo = descending.into(),
            CampaignKind::Stop | CampaignKind::Close => campaign.todo = ascending.into(),
            CampaignKind::Restart => {
                campaign.todo = ascending.into();
                campaign.then_start = descending;
            }
        }
        self.campaigns.insert(number, campaign);
        self.run_campaigns(effects);
        Ok(())
    }

    /// Gives the next watchers their turn, and answers the campaigns that are through.
    pub(super) fn run_campaigns(&mut self, effects: &mut Vec<Effect>) {
        if self.campaigning {
            return;
        }
        self.campaigning = true;
        loop {
            self.campaigns_moved = false;
            let numbers: Vec<u64> = self.campaigns.keys().copied().collect();
            for number in numbers {
                self.run_campaign(effects, number);
            }
            if !self.campaigns_moved {
                break;
            }
        }
        self.campaigning = false;
    }

    fn run_campaign(&mut self, effects: &mut Vec<Effect>, number: u64) {
        while let Some(id) = self.next_turn(number) {
            let Some(campaign) = self.campaigns.get_mut(&number) else {
                return;
            };
            let work = match campaign.kind {
                CampaignKind::Start => Work::Start,
                CampaignKind::Stop | CampaignKind::Restart | CampaignKind::Close => Work::Stop,
                CampaignKind::Reload {
                    graceful,
                    sequential,
                } => Work::Reload {
                    graceful,
                    sequential,
                },
            };
            let starting = matches!(work, Work::Start);
            let skip = self
                .watchers
                .get(&id)
                .is_none_or(|w| starting && (self.closing || !w.options.autostart()));
            if skip {
                continue;
            }
            campaign.busy.insert(id);
            self.touch(id, effects, |w, cx| {
                w.enqueue(cx, Job::new(Waiter::Campaign(number), work));
            });
        }
        let done = self
            .campaigns
            .get(&number)
            .is_some_and(|c| c.todo.is_empty() && c.busy.is_empty() && c.then_start.is_empty());
        if done && let Some(campaign) = self.campaigns.remove(&number) {
            effects.push(Effect::Reply {
                ticket: campaign.ticket,
                outcome: Outcome::Done,
            });
        }
    }

    /// Whose turn it is now in this campaign, if anybody's.
    fn next_turn(&mut self, number: u64) -> Option<WatcherId> {
        let now = self.now;
        let campaign = self.campaigns.get_mut(&number)?;
        campaign.resume_at = Time::NEVER;
        let in_turn = matches!(
            campaign.kind,
            CampaignKind::Start | CampaignKind::Reload { .. }
        );
        if in_turn && !campaign.busy.is_empty() {
            return None;
        }
        if campaign.todo.is_empty() && campaign.busy.is_empty() && !campaign.then_start.is_empty() {
            campaign.kind = CampaignKind::Start;
            campaign.todo = std::mem::take(&mut campaign.then_start).into();
        }
        if campaign.todo.is_empty() {
            return None;
        }
        if campaign.paused_until > now {
            campaign.resume_at = campaign.paused_until;
            return None;
        }
        campaign.todo.pop_front()
    }
}
