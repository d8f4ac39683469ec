"""Roles, grants and ranks: nobody gives what they do not have, or rules over those above."""

from itertools import pairwise
from typing import get_args

import pytest

from actors.session import commands as c
from actors.session import events as e
from actors.session import permissions
from actors.session.errors import Reason
from actors.session.state import Kind, Permission, Role
from tests.support.script import (
    ANN,
    BEN,
    CORA,
    EVE,
    HUGO,
    OLAF,
    TEACHER,
    Script,
    class_of,
    does,
    features,
    given,
    grants,
    has_role,
    joins,
    revokes,
    staff,
)

KINDS: tuple[Kind, ...] = get_args(Kind)


def test_every_permission_role_and_kind_has_defaults() -> None:
    assert frozenset(get_args(Permission)) == permissions.ALL
    assert set(get_args(Role)) == set(permissions.RANKS)
    assert set(KINDS) == set(permissions.MEMBERS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_rank_has_no_fewer_permissions(kind: Kind) -> None:
    by_rank = sorted(permissions.RANKS, key=permissions.RANKS.__getitem__)
    sets = [permissions.defaults(kind, role) for role in by_rank]
    assert all(lower < higher for lower, higher in pairwise(sets))
    assert "moderate" not in permissions.defaults(kind, "member"), "`audience.moderators` builds on it"


# Roles


def test_hosts_give_roles() -> None:
    script = given(class_of(ANN)).when(c.SetRole(ANN.user_id, "cohost"), by=TEACHER)
    script.then(e.RoleChanged(user_id=ANN.user_id, role="cohost"))
    script.when(c.SetRole(ANN.user_id, "cohost"), by=TEACHER).then()
    script.when(c.Lock(), by=ANN).then(e.SessionLocked())
    script.given(has_role(ANN, "member")).when(c.Unlock(), by=ANN).rejected(Reason.NOT_PERMITTED)


def test_only_hosts_do() -> None:
    script = given(class_of(ANN, BEN), staff(), grants(BEN, "moderate"))
    for by in (ANN, BEN, CORA):
        script.when(c.SetRole(by.user_id, "host"), by=by).rejected(Reason.NOT_PERMITTED)
        script.when(c.SetRole(OLAF.user_id, "member"), by=by).rejected(Reason.NOT_PERMITTED)
    script.when(c.SetRole(ANN.user_id, "host"), by=EVE).rejected(Reason.NOT_JOINED)
    script.when(c.SetRole(ANN.user_id, "host"), by=HUGO).then(e.RoleChanged(user_id=ANN.user_id, role="host"))


def test_the_owner_is_never_demoted() -> None:
    script = given(class_of(), staff())
    for by in (HUGO, TEACHER):
        for role in ("cohost", "member", "observer"):
            script.when(c.SetRole(TEACHER.user_id, role), by=by).rejected(Reason.LAST_HOST, field="role")
        script.when(c.SetRole(TEACHER.user_id, "host"), by=by).then()


def test_a_role_needs_a_participant() -> None:
    script = given(class_of(ANN), does(TEACHER, c.Kick(ANN.user_id)))
    for one in (ANN, EVE):
        script.when(c.SetRole(one.user_id, "cohost"), by=TEACHER).rejected(Reason.UNKNOWN_PARTICIPANT, field="user_id")


def test_a_role_can_be_given_ahead() -> None:
    script = given(does(TEACHER, c.Invite(CORA.user_id), c.SetRole(CORA.user_id, "cohost")), joins(CORA))
    assert script.participant(CORA).role == "cohost"


def test_a_role_does_not_count_before_joining_or_after_leaving() -> None:
    script = given(class_of(), features(lobby=True), joins(ANN), does(TEACHER, c.SetRole(ANN.user_id, "host")))
    script.when(c.Admit(ANN.user_id), by=ANN).rejected(Reason.WAITING)
    script = given(class_of(), has_role(CORA, "cohost"), does(CORA, c.Leave()))
    script.when(c.Lock(), by=CORA).rejected(Reason.NOT_JOINED)


# Permissions


def test_granting_and_revoking() -> None:
    script = given(class_of(ANN))
    script.when(c.SetPermissions(ANN.user_id, grant=["screen", "draw"], revoke=["chat"]), by=TEACHER)
    script.then(e.PermissionsChanged(user_id=ANN.user_id, granted=["draw", "screen"], revoked=["chat"]))
    script.when(c.SetPermissions(ANN.user_id, grant=["draw"], revoke=["chat"]), by=TEACHER).then()
    script.when(c.SetPermissions(ANN.user_id), by=TEACHER).then()
    script.when(c.SetPermissions(ANN.user_id, grant=["chat"], revoke=["draw"]), by=TEACHER)
    script.then(e.PermissionsChanged(user_id=ANN.user_id, granted=["chat", "screen"], revoked=["draw"]))
    expected = permissions.MEMBER | {"screen"}
    assert permissions.effective(script.state, script.participant(ANN)) == expected


def test_both_at_once_is_nonsense() -> None:
    command = c.SetPermissions(ANN.user_id, grant=["draw"], revoke=["draw"])
    given(class_of(ANN)).when(command, by=TEACHER).rejected(Reason.NOT_ALLOWED, field="revoke")


def test_nobody_grants_what_they_do_not_have() -> None:
    script = given(class_of(ANN, BEN), staff(), grants(BEN, "moderate"), revokes(CORA, "record"))
    script.when(c.SetPermissions(ANN.user_id, grant=["end"]), by=CORA).rejected(Reason.NOT_PERMITTED, field="grant")
    script.when(c.SetPermissions(CORA.user_id, grant=["end"]), by=CORA).rejected(Reason.NOT_PERMITTED, field="grant")
    script.when(c.SetPermissions(CORA.user_id, grant=["record"]), by=CORA).rejected(Reason.NOT_PERMITTED, field="grant")
    script.when(c.SetPermissions(BEN.user_id, grant=["screen"]), by=BEN).rejected(Reason.NOT_PERMITTED, field="grant")
    script.when(c.SetPermissions(OLAF.user_id, grant=["chat"]), by=BEN)
    script.then(e.PermissionsChanged(user_id=OLAF.user_id, granted=["chat"], revoked=[]))


def test_no_moderator_acts_on_a_higher_role() -> None:
    script = given(class_of(ANN), staff())
    take = c.SetPermissions(HUGO.user_id, revoke=["moderate"])
    script.when(take, by=CORA).rejected(Reason.NOT_PERMITTED)
    script.when(take, by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(take, by=EVE).rejected(Reason.NOT_JOINED)
    script.when(take, by=TEACHER).then(e.PermissionsChanged(user_id=HUGO.user_id, granted=[], revoked=["moderate"]))


def test_the_owner_has_every_permission_always() -> None:
    script = given(class_of(), staff())
    take = c.SetPermissions(TEACHER.user_id, revoke=["moderate"])
    script.when(take, by=HUGO).rejected(Reason.NOT_PERMITTED)
    script.when(take, by=TEACHER).rejected(Reason.NOT_ALLOWED, field="user_id")
    for permission in permissions.ALL:
        assert permissions.allowed(script.state, TEACHER.user_id, permission)
        assert not permissions.allowed(script.state, EVE.user_id, permission)


def test_permissions_outlast_leaving() -> None:
    script = given(class_of(ANN), grants(ANN, "screen"), does(ANN, c.Leave()), joins(ANN))
    assert permissions.allowed(script.state, ANN.user_id, "screen")


def test_permissions_need_a_participant() -> None:
    script = given(class_of(ANN), does(TEACHER, c.Kick(ANN.user_id)))
    for one in (ANN, EVE):
        command = c.SetPermissions(one.user_id, grant=["draw"])
        script.when(command, by=TEACHER).rejected(Reason.UNKNOWN_PARTICIPANT, field="user_id")


# Why


def why(script: Script, one: c.Caller, permission: Permission) -> tuple[bool, str]:
    found = permissions.why(script.state, one.user_id, permission)
    assert found.detail.endswith(".")
    return found.allowed, found.because


def test_every_permission_is_explained() -> None:
    script = given(class_of(ANN))
    assert [found.permission for found in permissions.explain(script.state, ANN.user_id)] == sorted(permissions.ALL)


def test_why_and_why_not() -> None:
    script = given(class_of(ANN), staff(), grants(ANN, "draw"), revokes(ANN, "chat"))
    assert why(script, ANN, "speak") == (True, "role")
    assert why(script, ANN, "record") == (False, "role")
    assert why(script, ANN, "draw") == (True, "granted")
    assert why(script, ANN, "chat") == (False, "revoked")
    assert why(script, CORA, "end") == (False, "role")
    assert why(script, TEACHER, "end") == (True, "owner")
    assert why(script, EVE, "speak") == (False, "not_joined")
    script.given(features(board=False, polls=False))
    assert why(script, ANN, "draw") == (False, "feature_off")
    assert why(script, TEACHER, "draw") == (False, "feature_off")
    assert why(script, ANN, "vote") == (True, "role"), "questions are upvoted too"
    script.given(features(questions=False))
    assert why(script, ANN, "vote") == (False, "feature_off")
    script.given(does(ANN, c.Leave()))
    assert why(script, ANN, "speak") == (False, "not_joined")
    assert why(script.given(does(TEACHER, c.End())), TEACHER, "end") == (False, "ended")
