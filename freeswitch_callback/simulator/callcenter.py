"""mod_callcenter's queues: members wait, agents are offered calls, everything is told as `callcenter::info`.

The order of events is that of the recordings `abandoned`, `answered`, `queue_timeout`, `overflow_answered`,
`abandoned_while_ringing`, `abandoned_then_resumed`, `exit_with_key`, `intercepted_from_the_queue`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from freeswitch_callback.simulator.channel import Channel
from freeswitch_callback.simulator.dial import Dialler, Origin
from freeswitch_callback.simulator.originate import parse_dial_string
from freeswitch_callback.simulator.roster import INFO, Roster, info_lines
from freeswitch_callback.simulator.tables import INSTANCE, Agent, Member, Offer, Queue, Tier


class Callcenter:
    """The queues. `reserve_agents`: whether they use the compare-and-set themselves; `pace`: how often they
    look for work, in seconds."""

    def __init__(
        self, dialler: Dialler, roster: Roster, *, pace: float = 0.1, reserve_agents: bool = True
    ) -> None:
        self._dialler = dialler
        self._switch = dialler.switch
        self.roster = roster
        self.pace = pace
        self.reserve_agents = reserve_agents
        self.queues: dict[str, Queue] = {}
        self.members: list[Member] = []
        self.hesitates = 0.01  # between choosing an agent and setting Receiving, without `reserve_agents`
        self._chosen: set[str] = set()
        self._looking = False
        roster.changed = self._look_soon

    def _tell_on(self, leg: Channel, action: str, **values: object) -> None:
        self._switch.fire("CUSTOM", leg, subclass=INFO, tail=info_lines(action, values))

    def _tell_count(self, queue: Queue) -> None:
        waiting = sum(1 for one in self.members if one.queue is queue and one.state in ("Waiting", "Trying"))
        self.roster.tell("members-count", CC_Queue=queue.name, CC_Count=waiting, CC_Selection="Single-Queue")

    def _now(self) -> int:
        return int(self._switch.now())

    def reload(self) -> None:
        """`reload mod_callcenter`: agents Waiting without an event, nobody waits or is served any more."""
        self.roster.reload()
        for member in self.members:
            if member.state != "Abandoned":
                member.state, member.leg = "Abandoned", None
                member.offers.clear()

    def boot(self) -> None:
        """FreeSWITCH starts (again)."""
        self.reload()
        self._chosen.clear()
        self._looking = False

    # Members

    def join(self, leg: Channel, queue_name: str, left: Callable[[], None]) -> bool:
        """A leg begins to wait; `left` is called when it goes on in its dialplan. False: no such queue."""
        queue = self.queues.get(queue_name)
        if queue is None:
            return False
        now, who = self._now(), leg.profile
        member = self._resumed(queue, who.cid_number)
        action = "member-queue-start"
        if member is not None:
            action = "member-queue-resume"
            member.leg, member.state, member.rejoined_epoch = leg, "Waiting", now
        else:
            given = leg.variables.get("cc_base_score", "")
            started = int(leg.created)
            base = (int(given) if given.isdigit() else 0) + (
                now - started if queue.time_base_score == "system" else 0
            )
            member = Member(
                queue,
                self._switch.new_uuid(),
                leg,
                who.cid_number,
                who.cid_name,
                started,
                now,
                base_score=base,
            )
            self.members.append(member)
        member.left = left
        member.joined = member.no_agent_since = self._switch.now()
        leg.variables.set(
            cc_side="member", cc_member_uuid=member.uuid, cc_queue_joined_epoch=now, cc_queue=queue.name
        )
        leg.on_hangup = lambda: self._leave(member, "BREAK_OUT", leg)
        leg.on_break = lambda: self._leave(member, "BREAK_OUT", leg)
        leg.on_key = lambda key: self._key(member, key)
        self._tell_on(
            leg,
            action,
            CC_Queue=queue.name,
            CC_Member_UUID=member.uuid,
            CC_Member_Session_UUID=leg.uuid,
            **self._cid(leg),
        )
        self._tell_count(queue)
        self._look_soon()
        return True

    def _cid(self, leg: Channel) -> dict[str, str]:
        return {"CC_Member_CID_Name": leg.profile.cid_name, "CC_Member_CID_Number": leg.profile.cid_number}

    def _resumed(self, queue: Queue, number: str) -> Member | None:
        self.discard()
        gone = [
            member
            for member in self.members
            if member.queue is queue and member.state == "Abandoned" and member.cid_number == number
        ]
        newest = max(gone, key=lambda member: member.abandoned_epoch, default=None)
        resumes = queue.abandoned_resume_allowed and newest is not None and newest.abandoned_epoch
        return newest if resumes else None

    def discard(self) -> None:
        """Forget those who left longer ago than their queue remembers; of one whose call was cut off, that is
        since they joined."""
        now = self._now()
        self.members = [
            member
            for member in self.members
            if member.state != "Abandoned"
            or (member.abandoned_epoch or member.joined_epoch) + member.queue.discard_abandoned_after >= now
        ]

    def _key(self, member: Member, key: str) -> None:
        leg = member.leg
        if (
            leg is not None
            and member.state in ("Waiting", "Trying")
            and key in leg.variables.get("cc_exit_keys", "")
        ):
            leg.variables["cc_exit_key"] = key
            self._leave(member, "EXIT_WITH_KEY", leg)

    def _leave(self, member: Member, reason: str, leg: Channel) -> None:
        """A member stops waiting without having been served."""
        if member.leg is not leg or member.state not in ("Waiting", "Trying"):
            return
        now = self._now()
        for offer in list(member.offers):
            offer.withdrawn = "ORIGINATOR_CANCEL"
            if offer.dial is not None:
                offer.dial.give_up("ORIGINATOR_CANCEL")
        member.state, member.leg, member.abandoned_epoch = "Abandoned", None, now
        member.queue.calls_abandoned += 1
        leg.on_hangup = leg.on_break = lambda: None
        leg.on_key = lambda _key: None
        self._tell_on(
            leg,
            "member-queue-end",
            CC_Queue=member.queue.name,
            CC_Member_Leaving_Time=now,
            CC_Member_Joined_Time=int(member.joined),
            CC_Cause="Cancel",
            CC_Cancel_Reason=reason,
            CC_Member_UUID=member.uuid,
            CC_Member_Session_UUID=leg.uuid,
            **self._cid(leg),
        )
        self._tell_count(member.queue)
        leg.variables.set(cc_queue_canceled_epoch=now, cc_cause="cancel", cc_cancel_reason=reason)
        if reason != "BREAK_OUT":
            member.left()

    # The queue looks for work

    def _look_soon(self) -> None:
        """The module's thread wakes every `pace` seconds; here only while somebody waits."""
        if not self._looking and any(member.state in ("Waiting", "Trying") for member in self.members):
            self._looking = True
            self._switch.after(self.pace, self._look)

    def _look(self) -> None:
        self._looking = False
        now = self._switch.now()
        for member in [
            one for one in self.members if one.leg is not None and one.state in ("Waiting", "Trying")
        ]:
            self._check_time(member, now)
        waiting = [member for member in self.members if member.state == "Waiting" and member.leg is not None]
        for member in sorted(waiting, key=lambda one: -one.score(now)):
            self._offer(member, now)
        self._look_soon()

    def _check_time(self, member: Member, now: float) -> None:
        queue, leg = member.queue, member.leg
        assert leg is not None
        if self._agent_on_duty(queue):
            member.no_agent_since = now
        alone = now - member.no_agent_since
        if queue.max_wait_time_with_no_agent and alone >= queue.max_wait_time_with_no_agent:
            self._leave(member, "NO_AGENT_TIMEOUT", leg)
        elif queue.max_wait_time and now - member.joined >= queue.max_wait_time:
            self._leave(member, "TIMEOUT", leg)

    def _agent_on_duty(self, queue: Queue) -> bool:
        return any(
            tier.queue == queue.name and self.roster.agents[tier.agent].status != "Logged Out"
            for tier in self.roster.tiers
            if tier.agent in self.roster.agents
        )

    def _candidates(self, queue: Queue, now: float) -> list[tuple[Agent, Tier]]:
        found = [
            (self.roster.agents[tier.agent], tier)
            for tier in self.roster.tiers
            if tier.queue == queue.name
            and tier.agent in self.roster.agents
            and tier.state in ("Ready", "No Answer")
        ]
        found = [
            (agent, tier)
            for agent, tier in found
            if agent.free(now)
            and agent.name not in self._chosen
            and not (queue.skip_agents_with_external_calls and agent.external_calls_count)
        ]
        if queue.strategy == "longest-idle-agent":
            return sorted(found, key=lambda one: (one[1].level, one[0].last_bridge_end, one[1].position))
        if queue.strategy == "agent-with-fewest-calls":
            return sorted(found, key=lambda one: (one[1].level, one[0].calls_answered, one[1].position))
        found.sort(key=lambda one: (one[1].level, one[1].position))
        if queue.strategy == "round-robin":
            behind = next((at for at, one in enumerate(found) if one[0].name == queue.last_offered), -1) + 1
            found = found[behind:] + found[:behind]
        return found

    def _offer(self, member: Member, now: float) -> None:
        everybody = member.queue.strategy == "ring-all"
        for agent, tier in self._candidates(member.queue, now):
            if self.reserve_agents:
                if self.roster.set_state(agent.name, "Reserved", if_waiting=True) != "+OK\n":
                    continue
                self._receive(member, agent, tier)
            else:
                # The row was read as Waiting; it is set a moment later, whatever happened in between.
                self._chosen.add(agent.name)
                self._switch.after(self.hesitates, partial(self._receive, member, agent, tier))
            member.state = "Trying"
            member.queue.last_offered = agent.name
            if not everybody:
                break

    def _receive(self, member: Member, agent: Agent, tier: Tier) -> None:
        leg = member.leg
        self._chosen.discard(agent.name)
        if leg is None or not leg.up or member.state not in ("Waiting", "Trying"):
            if self.reserve_agents:
                self.roster.set_state(agent.name, "Waiting")
            return
        self.roster.set_state(agent.name, "Receiving")
        agent.last_offered_call = self._now()
        offer = Offer(agent, tier, self._switch.now())
        member.offers.append(offer)
        self.roster.tell(
            "agent-offering",
            CC_Queue=member.queue.name,
            CC_Agent=agent.name,
            CC_Agent_Type=agent.type,
            CC_Agent_System=INSTANCE,
            CC_Member_UUID=member.uuid,
            CC_Member_Session_UUID=leg.uuid,
            **self._cid(leg),
        )
        contact = parse_dial_string(agent.contact, self._dialler.note)
        contact.variables.update(self._agent_variables(member, agent, leg))
        offer.dial = self._dialler.dial(
            contact,
            origin=Origin("queue"),
            on_success=lambda answered: self._answered(member, offer, leg, answered),
            on_failure=lambda cause: self._failed(member, offer, leg, cause),
        )

    def _agent_variables(self, member: Member, agent: Agent, leg: Channel) -> dict[str, str]:
        variables = {
            "cc_queue": member.queue.name,
            "cc_queue_joined_epoch": str(member.joined_epoch),
            "cc_member_uuid": member.uuid,
            "cc_member_session_uuid": leg.uuid,
            "cc_member_pre_answer_uuid": member.uuid,
            "cc_agent": agent.name,
            "cc_agent_type": agent.type,
            "cc_side": "agent",
            "ignore_early_media": "true",
            "origination_caller_id_name": leg.profile.cid_name,
            "origination_caller_id_number": leg.profile.cid_number,
        }
        for name in leg.variables.get("cc_export_vars", "").split(","):
            if name in leg.variables:
                variables[name.removeprefix("nolocal:")] = leg.variables[name]
        return variables

    def _answered(self, member: Member, offer: Offer, leg: Channel, answered: Channel) -> None:
        if not leg.up:  # the caller hung up in the same moment
            offer.withdrawn = "ORIGINATOR_CANCEL"
            failed = partial(self._failed, member, offer, leg, "ORIGINATOR_CANCEL")
            answered.on_complete = self._then(answered.on_complete, failed)
            self._switch.hang_up(answered, "ORIGINATOR_CANCEL")
            return
        agent, queue, now = offer.agent, member.queue, self._now()
        offer.answered, offer.leg = self._switch.now(), answered
        for other in [other for other in member.offers if other is not offer]:
            other.withdrawn = "LOSE_RACE"
            if other.dial is not None:
                other.dial.give_up("LOSE_RACE")
        answered.variables.drop("cc_member_pre_answer_uuid")
        about = self._about(member, offer, leg)
        self._tell_on(answered, "bridge-agent-start", **about)
        self._tell_count(queue)
        member.state, member.bridge_epoch, member.serving_agent = "Answered", now, agent.name
        agent.uuid, agent.no_answer_count, agent.last_bridge_start = answered.uuid, 0, now
        agent.calls_answered += 1
        queue.calls_answered += 1
        offer.tier.state = "Active Inbound"
        leg.on_key = lambda _key: None
        leg.on_break = lambda: None
        leg.variables.set(cc_agent_uuid=answered.uuid, cc_cause="answered")
        answered.on_complete = self._then(
            answered.on_complete, lambda: self._served(member, offer, leg, answered)
        )
        self._switch.bridge(
            leg, answered, state=("CS_SOFT_EXECUTE", 3), afterwards=lambda: self._let_go(member, leg)
        )
        answered.on_hangup = self._then_alone(answered)
        leg.variables.set(cc_agent_bridged="true", cc_agent=agent.name, cc_queue_answered_epoch=now)
        answered.variables["cc_agent_bridged"] = "true"
        self.roster.set_state(agent.name, "In a queue call")

    def _then_alone(self, answered: Channel) -> Callable[[], None]:
        """After its talk an agent's leg is again a call of its own, at its CHANNEL_HANGUP_COMPLETE."""
        leave = answered.on_hangup

        def alone() -> None:
            leave()
            answered.call_uuid = answered.uuid
            answered.variables.set(call_uuid=answered.uuid, bridge_hangup_cause=answered.cause)

        return alone

    def _then(self, first: Callable[[], object], second: Callable[[], None]) -> Callable[[], None]:
        def both() -> None:
            first()
            self._switch.after(0, second)

        return both

    def _let_go(self, member: Member, leg: Channel) -> None:
        """The agent has hung up: the member's dialplan goes on, or ends."""
        if leg.variables.get("hangup_after_bridge") == "true":
            self._switch.hang_up(leg)
        else:
            member.left()

    def _about(self, member: Member, offer: Offer, leg: Channel) -> dict[str, object]:
        return {
            "CC_Queue": member.queue.name,
            "CC_Agent": offer.agent.name,
            "CC_Agent_System": INSTANCE,
            "CC_Agent_UUID": offer.leg.uuid if offer.leg is not None else "",
            "CC_Agent_Called_Time": int(offer.called),
            "CC_Agent_Answered_Time": int(offer.answered),
            "CC_Member_Joined_Time": int(member.joined),
            "CC_Member_UUID": member.uuid,
            "CC_Member_Session_UUID": leg.uuid,
            **self._cid(leg),
        }

    def _served(self, member: Member, offer: Offer, leg: Channel, answered: Channel) -> None:
        """The conversation is over."""
        now, agent = self._now(), offer.agent
        about = self._about(member, offer, leg)
        self._tell_on(
            answered,
            "bridge-agent-end",
            **about,
            CC_Hangup_Cause="SUCCESS",
            CC_Agent_Bridged="true",
            CC_Bridge_Terminated_Time=now,
        )
        leg.variables["cc_queue_terminated_epoch"] = str(now)
        self._tell_on(
            leg,
            "member-queue-end",
            **about,
            CC_Hangup_Cause="SUCCESS",
            CC_Cause="Terminated",
            CC_Member_Leaving_Time=now,
        )
        if member in self.members:
            self.members.remove(member)
        agent.last_bridge_end, agent.uuid = now, ""
        agent.talk_time += now - int(offer.answered)
        offer.tier.state = "Ready"
        self.roster.set_state(agent.name, "Waiting" if agent.status != "Available (On Demand)" else "Idle")

    def _failed(self, member: Member, offer: Offer, leg: Channel, cause: str) -> None:
        """The agent did not take the call."""
        agent, queue, now = offer.agent, member.queue, self._now()
        cause = offer.withdrawn or cause
        if offer in member.offers:
            member.offers.remove(offer)
        delay = 0
        if cause in ("USER_BUSY", "NORMAL_CIRCUIT_CONGESTION"):
            delay = agent.busy_delay_time
        elif cause == "CALL_REJECTED":
            delay = agent.reject_delay_time
        elif cause in ("USER_NOT_REGISTERED", "SUBSCRIBER_ABSENT"):
            delay = 5
        elif cause not in ("LOSE_RACE", "ORIGINATOR_CANCEL"):
            delay = agent.no_answer_delay_time
            offer.tier.state = "No Answer"
            agent.no_answer_count += 1
            if agent.max_no_answer and agent.no_answer_count >= agent.max_no_answer:
                self.roster.tell(
                    "agent-max-no-answer",
                    CC_Agent=agent.name,
                    CC_Agent_No_Answer_Count=agent.no_answer_count,
                    CC_Agent_No_Answer_Status=queue.agent_no_answer_status,
                    CC_Member_UUID=member.uuid,
                    CC_Member_Session_UUID=leg.uuid,
                )
                self.roster.set_status(agent.name, queue.agent_no_answer_status)
        if delay:
            agent.ready_time = now + delay
        self.roster.tell(
            "bridge-agent-fail",
            CC_Queue=queue.name,
            CC_Hangup_Cause=cause,
            CC_Agent=agent.name,
            CC_Agent_System=INSTANCE,
            CC_Agent_Called_Time=int(offer.called),
            CC_Agent_Aborted_Time=now,
            CC_Member_UUID=member.uuid,
            CC_Member_Session_UUID=leg.uuid,
            **self._cid(leg),
            CC_Member_Joined_Time=member.joined_epoch,
        )
        if member.state == "Trying" and not member.offers:
            member.state = "Waiting"
        self.roster.set_state(agent.name, "Waiting")
