"""The pages in a browser, of an engine at work: what operators and supervisors see and do."""

from __future__ import annotations

import csv
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import gevent
import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from freeswitch_callback.cli.website import served
from freeswitch_callback.core.access import Role
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.ledger import Ledger, operations
from freeswitch_callback.operations import accounts
from freeswitch_callback.operations.accounts import NewUser
from freeswitch_callback.web.process import PagesProcess
from freeswitch_callback.web.site import Settings
from tests.acceptance.conftest import CLIENT, SUPPORT, House
from tests.hostile import TEXTS

AGENT, COLLEAGUE = "1001@default", "1002@default"
PASSWORD = "correct horse battery"
USERS = [
    NewUser("anna", Role.OPERATOR, agent=AGENT),
    NewUser("boris", Role.OPERATOR, agent=COLLEAGUE),
    NewUser("eva", Role.SUPERVISOR),
]
HASHES: dict[str, str] = {}
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
LINKS = {"CRM": "https://crm.example/search?phone={number}&name={caller_name}"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine: install the package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """What a browser shows does not depend on the database."""
    url = f"sqlite://{tmp_path}/callback.db"
    with closing(Ledger(url)) as ledger:
        ledger.migrate()
    return url


class Pages:
    """The site of one engine, and people who open it."""

    def __init__(self, house: House, browser: Browser) -> None:
        self.house = house
        self.browser = browser
        self.engine: Engine | None = None
        self.url = ""
        self.errors: list[str] = []
        self._open = ExitStack()
        self._serving = ExitStack()

    def start(self, engine: Engine) -> None:
        for user in USERS:
            if user.name not in HASHES:
                HASHES[user.name] = accounts.hashed(PASSWORD)
            self.house.ledger.people.add_user(
                user.name, HASHES[user.name], user.role, "test", agent=user.agent, queues=user.queues
            )
        self.engine = engine
        self.serve()

    def serve(self, port: int = 0) -> None:
        assert self.engine is not None
        listen, settings = ("127.0.0.1", port), Settings(links=LINKS)
        process = PagesProcess(self.engine, self.house.url, None, settings, listen)
        self.url = self._serving.enter_context(served(process)).address

    def stop_serving(self) -> int:
        """The port that it had."""
        self._serving.close()
        return int(self.url.rpartition(":")[2])

    def log_in(self, name: str, **context: Any) -> Page:
        opened = self.browser.new_context(**({"locale": "en-US"} | context))
        self._open.callback(opened.close)
        page = opened.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(self.url)
        page.fill("input[name=name]", name)
        page.fill("input[name=password]", PASSWORD)
        page.click("main button")
        page.wait_for_selector("[data-link=on]")
        return page

    def close(self) -> None:
        self._open.close()
        self._serving.close()


@pytest.fixture
def pages(house: House, chromium: Browser) -> Iterator[Pages]:
    house.pause = partial(gevent.sleep, 0.01)  # beside a browser the hub is never idle
    pages = Pages(house, chromium)
    yield pages
    pages.close()
    assert pages.errors == []


@pytest.fixture
def asked(house: House, pages: Pages) -> Page:
    """Anna's page; nothing is dialled before she accepts."""
    pages.start(house.engine(accept_within=60.0))
    return pages.log_in("anna")


def card(page: Page) -> Any:
    return page.locator("[data-card]")


def offer(house: House, page: Page, agent: str = AGENT, **missed: Any) -> None:
    """Somebody was missed, and the agent becomes free."""
    house.missed(**missed)
    house.free(agent)
    expect(card(page)).to_be_visible()


# --- the operator --------------------------------------------------------------------------------------


def test_the_card_is_there_within_a_second_and_accepted_by_a_key(house: House, asked: Page) -> None:
    expect(asked.get_by_text("No recall right now")).to_be_visible()
    house.missed(caller_name="Zoë 山田", timewait=125, calledid="+12025550000", extra={"language": "de"})
    house.free(AGENT)
    house.until(lambda: house.ledger.at_hand(AGENT) is not None)
    reserved = time.monotonic()
    expect(card(asked)).to_be_visible()
    assert time.monotonic() - reserved < 1.0
    for text in ("+1 202-555-0200", "Zoë 山田", "2 min 5 s", "gave up waiting in the queue", "1 of 3", "de"):
        expect(card(asked)).to_contain_text(text)
    assert "+1 202-555-0200" in asked.title()
    link = card(asked).get_by_role("link", name="CRM").get_attribute("href")
    assert link == "https://crm.example/search?phone=%2B12025550200&name=Zo%C3%AB%20%E5%B1%B1%E7%94%B0"
    assert house.sim.dialled == []
    asked.keyboard.press("a")
    house.row(phone=CLIENT, closed_as="recalled", recalloperator=AGENT)
    asked.get_by_role("button", name="voicemail").click()
    expect(asked.get_by_text("The client is called again")).to_be_visible()
    house.row(phone=CLIENT, state="waiting", note="voicemail")


def test_it_is_put_off_by_keys(house: House, asked: Page) -> None:
    offer(house, asked)
    asked.keyboard.press("p")
    asked.keyboard.press("2")
    expect(asked.get_by_text("No recall right now")).to_be_visible()
    row = house.row(phone=CLIENT, state="waiting")
    assert 14 * 60 < (row["due_at"] - row["calldate"]).total_seconds() < 16 * 60
    assert house.sim.dialled == []


def test_it_is_put_off_until_a_moment_of_the_browsers_clock(house: House, pages: Pages) -> None:
    pages.start(house.engine(accept_within=60.0))
    page = pages.log_in("anna", timezone_id="Asia/Tokyo")
    offer(house, page)
    page.keyboard.press("p")
    moment = page.evaluate(
        "() => { const d = new Date(Date.now() + 36e5 + 9 * 36e5); return d.toISOString().slice(0, 16); }"
    )
    page.fill("[data-local]", moment)
    page.get_by_role("button", name="Postpone", exact=True).click()
    row = house.row(phone=CLIENT, state="waiting")
    house.until(lambda: house.row(phone=CLIENT)["due_at"] > row["calldate"])
    assert 58 * 60 < (house.row(phone=CLIENT)["due_at"] - row["calldate"]).total_seconds() < 61 * 60


def test_it_is_rejected_with_a_reason_and_noted(house: House, asked: Page) -> None:
    offer(house, asked)
    asked.keyboard.press("n")
    asked.keyboard.type("asks for <b>Ms. Ω</b>")
    asked.keyboard.press("Enter")
    expect(card(asked).get_by_text("asks for <b>Ms. Ω</b>")).to_be_visible()
    asked.keyboard.press("r")
    asked.keyboard.type("a joker")
    asked.keyboard.press("Enter")
    assert house.row(phone=CLIENT, closed_as="rejected")["note"] == "a joker"
    expect(asked.get_by_text("No recall right now")).to_be_visible()


def test_whoever_is_not_to_be_called_never_is(house: House, asked: Page) -> None:
    offer(house, asked)
    asked.keyboard.press("d")
    asked.keyboard.type("asked for it")
    asked.keyboard.press("Enter")
    house.row(phone=CLIENT, closed_as="rejected")
    assert [entry.number for entry in house.ledger.forbidden()] == [CLIENT]


def test_what_is_typed_survives_a_change(house: House, asked: Page) -> None:
    offer(house, asked)
    asked.keyboard.press("n")
    asked.keyboard.type("half a sent")
    house.ledger.remark(house.ledger.card(house.ledger.at_hand(AGENT) or 0).recall["id"], "eva", "hello")
    house.missed(phone="+12025550177")
    asked.keyboard.type("ence")
    asked.keyboard.press("Enter")
    expect(card(asked).get_by_text("half a sentence")).to_be_visible()


def test_what_was_asked_for_before_somebody_chose_does_not_close_the_choice(
    house: House, asked: Page
) -> None:
    offer(house, asked)
    late: list[Route] = []
    asked.route("**/me/now", lambda route: late.append(route))
    with asked.expect_request("**/me/now"):
        asked.evaluate("htmx.trigger('#now', 'refresh')")
    asked.keyboard.press("r")
    asked.keyboard.type("a jo")
    with asked.expect_response("**/me/now"):
        for route in late:
            route.continue_()
    asked.unroute("**/me/now")
    asked.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    asked.keyboard.type("ker")
    asked.keyboard.press("Enter")
    assert house.row(phone=CLIENT, closed_as="rejected")["note"] == "a joker"


NOTES_WHAT_IS_HEARD = """
    window.heard = 0;
    const Real = EventSource;
    window.EventSource = class extends Real {
        constructor(...given) {
            super(...given);
            this.addEventListener("change", () => { window.heard += 1; });
        }
    };
"""
# And looked at: looks are spread over less.
UNTIL_IT_IS_HEARD = """
    new Promise((done) => {
        const look = () => window.heard ? setTimeout(done, 300) : setTimeout(look, 20);
        look();
    })
"""


def test_what_came_of_it_is_told_though_the_news_is_there_before_the_answer(
    house: House, asked: Page
) -> None:
    asked.add_init_script(NOTES_WHAT_IS_HEARD)
    asked.reload()
    offer(house, asked)
    asked.keyboard.press("a")
    house.row(phone=CLIENT, closed_as="recalled", recalloperator=AGENT)
    voicemail = asked.get_by_role("button", name="voicemail")
    expect(voicemail).to_be_visible()
    answers: list[tuple[Route, Any]] = []
    asked.route("**/me/result", lambda route: answers.append((route, route.fetch())))
    asked.evaluate("window.heard = 0")
    voicemail.click()
    asked.evaluate(UNTIL_IT_IS_HEARD)
    [(route, answer)] = answers
    route.fulfill(response=answer)
    expect(asked.get_by_text("The client is called again")).to_be_visible()


@pytest.mark.parametrize("text", TEXTS[::9])
def test_what_strangers_send_is_text(house: House, asked: Page, text: str) -> None:
    trap = "<img src=x onerror=window.caught=1>"
    offer(house, asked, caller_name=trap + text, calledid=text, extra={"x": text})
    [row] = house.rows()
    shown = card(asked).locator(".name").inner_text()
    assert " ".join(shown.split()) == " ".join(row["caller_name"].split())
    assert asked.evaluate("window.caught") is None
    assert asked.locator("main img, main script").count() == 0


def test_two_operators_do_not_see_each_others_cards(house: House, pages: Pages) -> None:
    pages.start(house.engine(accept_within=60.0))
    anna, boris = pages.log_in("anna"), pages.log_in("boris")
    offer(house, anna)
    expect(card(boris)).to_have_count(0)
    attempt = house.ledger.at_hand(AGENT)
    told = boris.evaluate(
        """async (attempt) => {
            const token = JSON.parse(document.body.getAttribute("hx-headers"));
            const body = new URLSearchParams({attempt, say: "accept"});
            const headers = {...token, "HX-Request": "true"};
            return (await fetch("/me/say", {method: "POST", body, headers})).status;
        }""",
        attempt,
    )
    assert told == 409
    offer(house, boris, COLLEAGUE, phone="+12025550188")
    expect(card(boris)).to_contain_text("+1 202-555-0188")
    expect(card(anna)).to_contain_text("+1 202-555-0200")


def test_after_a_restart_the_page_catches_up(house: House, pages: Pages, asked: Page) -> None:
    port = pages.stop_serving()
    expect(asked.locator("[data-link=off]")).to_be_visible()
    house.missed()
    house.free(AGENT)
    house.until(lambda: house.ledger.at_hand(AGENT) is not None)
    expect(card(asked)).to_have_count(0)
    pages.serve(port)
    expect(card(asked)).to_be_visible()
    expect(asked.locator("[data-link=on]")).to_be_visible()


def test_a_phone_that_rings_is_on_the_page_before(house: House, pages: Pages) -> None:
    pages.start(house.engine())
    page = pages.log_in("anna")
    offer(house, page)
    house.row(phone=CLIENT, closed_as="recalled")
    expect(page.get_by_text("What did it come to?")).to_be_visible()
    page.keyboard.press("1")
    expect(page.get_by_text("No recall right now")).to_be_visible()
    house.row(phone=CLIENT, closed_as="recalled")


def test_it_speaks_russian(house: House, pages: Pages) -> None:
    pages.start(house.engine(accept_within=60.0))
    page = pages.log_in("anna", locale="ru-RU")
    offer(house, page, timewait=125)
    expect(card(page)).to_contain_text("2 мин 5 с")
    expect(card(page)).to_contain_text("не дождался ответа в очереди")
    page.locator(".menu summary").click()
    page.get_by_role("button", name="English").click()
    page.wait_for_selector("[data-link=on]")
    expect(card(page)).to_contain_text("gave up waiting in the queue")


# --- the supervisor ------------------------------------------------------------------------------------


@pytest.fixture
def board(house: House, pages: Pages) -> Page:
    pages.start(house.engine())
    for number in range(60):
        house.missed(phone=f"+120255501{number:02}", caller_name=f"Caller {number}")
    return pages.log_in("eva")


def test_the_board_is_searched_paged_and_told_of_news(house: House, board: Page) -> None:
    rows = board.locator("#calls tbody tr:has(input)")
    expect(rows).to_have_count(50)
    board.get_by_role("button", name="More").click()
    expect(rows).to_have_count(60)
    board.fill("#search", "Caller 17")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("+1 202-555-0117")
    tile = board.locator(".tile", has_text="waiting to be called").locator("b")
    expect(tile).to_have_text("60")
    house.missed(phone="+12025550199")
    expect(tile).to_have_text("61")


def test_the_chart_says_where_nothing_was_missed_and_speaks_russian(house: House, pages: Pages) -> None:
    pages.start(house.engine())
    page = pages.log_in("eva", locale="ru-RU")
    nothing = page.get_by_text("За это время пропущенных звонков нет.")
    expect(nothing).to_be_visible()
    house.missed(phone=CLIENT)
    page.get_by_role("button", name="7 дней").click()
    expect(nothing).to_be_hidden()
    expect(page.locator("#chart .u-legend")).to_contain_text("час")


def test_what_is_done_to_many_is_told_first(house: House, board: Page) -> None:
    board.fill("#search", "Caller 1")
    rows = board.locator("#calls tbody tr:has(input)")
    expect(rows).to_have_count(11)
    board.get_by_label("Choose all that are shown").check()
    expect(board.locator("[data-count]")).to_have_text("chosen: 11")
    board.locator("#chosen input[name=note]").fill("a test")
    board.get_by_role("button", name="Close", exact=True).click()
    expect(board.locator("#act")).to_contain_text("11 calls are closed")
    assert house.ledger.open_by_state() == {"waiting": 60}
    board.get_by_role("button", name="Do it").click()
    expect(board.locator("#act")).to_contain_text("Done.")
    assert house.ledger.open_by_state() == {"waiting": 49}
    assert {row["note"] for row in house.rows() if row["state"] == "closed"} == {"a test"}
    expect(rows.first).to_contain_text("cancelled")


def test_what_is_done_to_all_that_match_is_told_first_and_goes_on_in_portions(
    house: House, board: Page
) -> None:
    more, older = operations.BATCH, datetime.now(UTC) - timedelta(hours=1)
    for number in range(more):
        house.missed(phone=f"+120255510{number:02}", caller_name=f"Caller 1 of {number}", calldate=older)
    board.reload()
    board.wait_for_selector("[data-link=on]")
    board.fill("#search", "Caller 1")
    expect(board.locator("#calls tbody tr:has(input)").first).to_contain_text("Caller 19")
    board.get_by_label("All that match").check()
    board.get_by_role("button", name="Close", exact=True).click()
    expect(board.locator("#act")).to_contain_text(f"{more + 11} calls are closed")
    assert house.ledger.open_by_state() == {"waiting": more + 60}
    board.get_by_role("button", name="Do it").click()
    expect(board.locator("#act [data-done]")).to_contain_text(f"{more + 11} calls are closed")
    assert house.ledger.open_by_state() == {"waiting": 49}
    assert {row["caller_name"][:8] for row in house.rows() if row["state"] == "closed"} == {"Caller 1"}


def test_one_call_has_its_whole_story_and_the_list_a_file(house: House, board: Page) -> None:
    board.fill("#search", "Caller 42")
    expect(board.locator("#calls tbody tr:has(input)")).to_have_count(1)
    with board.expect_download() as loading:
        board.get_by_role("link", name="Export as CSV").click()
    with open(loading.value.path(), encoding="utf-8-sig", newline="") as file:
        assert [row["caller_name"] for row in csv.DictReader(file)] == ["Caller 42"]
    board.locator("#calls tbody a").click()
    board.wait_for_url(re.compile(r"/board/calls/\d+$"))
    board.fill("input[name=text]", "a loyal client")
    board.get_by_role("button", name="Save").click()
    expect(board.get_by_text("a loyal client")).to_be_visible()
    expect(board.get_by_text("opened")).to_be_visible()


def test_an_operator_has_no_board_and_a_supervisor_no_card(house: House, pages: Pages, asked: Page) -> None:
    asked.goto(pages.url + "/board")
    expect(asked.get_by_text("This page is not for you.")).to_be_visible()
    eva = pages.log_in("eva")
    eva.goto(pages.url + "/me")
    expect(eva.get_by_text("This page is not for you.")).to_be_visible()


def test_whoever_logs_out_is_out(pages: Pages, asked: Page) -> None:
    asked.locator(".menu summary").click()
    asked.get_by_role("button", name="Log out").click()
    asked.wait_for_url(re.compile("/login$"))
    asked.goto(pages.url + "/me")
    asked.wait_for_url(re.compile("/login$"))
    asked.fill("input[name=name]", "anna")
    asked.fill("input[name=password]", "wrong")
    asked.click("main button")
    expect(asked.get_by_role("alert")).to_have_text("Name or password is wrong.")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_nothing_keeps_anybody_out(house: House, pages: Pages, colours: Any) -> None:
    """axe finds no serious violation, with the content security policy as it is."""
    pages.start(house.engine(accept_within=60.0))
    looks: dict[str, Any] = {"color_scheme": colours, "reduced_motion": "reduce"}
    anna = pages.log_in("anna", **looks)
    offer(house, anna)
    house.missed(phone="+12025550133")
    found = {"operator": violations(anna)}
    eva = pages.log_in("eva", **looks)
    expect(eva.locator("#calls tbody tr")).to_have_count(2)
    found["board"] = violations(eva)
    eva.locator("#calls tbody a").first.click()
    expect(eva.get_by_text("The whole story")).to_be_visible()
    found["call"] = violations(eva)
    eva.context.clear_cookies()
    eva.goto(pages.url + "/login")
    found["log-in"] = violations(eva)
    assert not any(found.values()), found


def violations(page: Page) -> list[str]:
    page.evaluate(AXE)
    result = page.evaluate("axe.run()")
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for each in result["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_a_page_fits_a_phone(house: House, pages: Pages) -> None:
    pages.start(house.engine(accept_within=60.0))
    page = pages.log_in("anna", viewport={"width": 360, "height": 740})
    offer(house, page, caller_name="A" * 60)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
    assert SUPPORT in page.inner_text("main")
