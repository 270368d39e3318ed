"""The alerts that are pending, fire, are acknowledged or silenced, with what an operator can decide."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.dialogs.confirm import Confirm
from tui.dialogs.prompt import Prompt
from tui.keymap import with_keys
from tui.session import Session
from tui.text import alerts as alert_text
from tui.widgets.line import Line
from tui.widgets.row_list import Row, RowList
from workers.monitoring.snapshot import Alert
from workers.words import plural

_REFRESH_SECONDS = 1.0
_DEFAULT_SILENCE = "1 h"
_KEYS = (
    "{alerts.runbook} runbook   {alerts.acknowledge} acknowledge   {alerts.silence} silence   "
    "{alerts.end-silence} unsilence   {alerts.close} close"
)


class AlertsDialog(ModalScreen[None]):
    """Shows the alerts of the newest snapshot."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,a,q", "close", "Close"),
        Binding("enter,r", "runbook", "Runbook"),
        Binding("c", "acknowledge", "Acknowledge"),
        Binding("s", "silence", "Silence"),
        Binding("u", "end_silence", "End its silence"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def compose(self) -> ComposeResult:
        """Compose the list."""
        with Vertical(classes="dialog alerts"):
            yield Line("Alerts", id="alerts-title", classes="title")
            with VerticalScroll(can_focus=False):
                yield RowList[Alert](id="alerts")
            yield Static(with_keys(self, _KEYS), classes="keys", markup=False)

    def on_mount(self) -> None:
        """Follow the snapshots."""
        self._show()
        self.query_one(RowList).focus()
        self.set_interval(_REFRESH_SECONDS, self._show)

    def _show(self) -> None:
        snapshot = self._session.snapshot
        alerts = snapshot.alerts if snapshot is not None else ()
        rows = [
            Row(alert_text.alert_key(alert), alert, alert_text.alert_lines(alert, self._session.now))
            for alert in alerts
        ]
        self.query_one("#alerts", RowList).show_rows(rows)
        firing = sum(alert.fires for alert in alerts)
        words = "none fires" if not firing else f"{plural(firing, 'alert')} now"
        self.query_one("#alerts-title", Line).show(f"Alerts · {words}{alert_text.other_counts(alerts)}")

    def _selected_alert(self) -> Alert | None:
        """Return the alert under the cursor; without one, a message shows that."""
        alert: Alert | None = self.query_one("#alerts", RowList).selected
        if alert is None:
            self.notify("no alert: there is nothing to decide")
        return alert

    def action_close(self) -> None:
        """Close the list."""
        self.dismiss(None)

    def action_runbook(self) -> None:
        """Show what the alert means, and what to do."""
        if (alert := self._selected_alert()) is not None:
            self.app.push_screen(RunbookDialog(alert.name))

    def on_row_list_opened(self) -> None:
        """Show the runbook."""
        self.action_runbook()

    @work(exclusive=True, group="decision")
    async def action_acknowledge(self) -> None:
        """Mark the alert as seen until it is resolved."""
        alert = self._selected_alert()
        if alert is None or not self._session.may_change():
            return
        if alert.state != "firing":
            self.notify(f"only an alert that fires can be acknowledged: this one is {alert.state}")
            return
        verb = self._session.operations.alerts.acknowledge(alert.name, alert.queue)
        if await self._session.run(verb) is not None:
            self.notify(f"{alert.name} acknowledged until it is resolved", markup=False)
            self._session.refresh()

    @work(exclusive=True, group="decision")
    async def action_silence(self) -> None:
        """Silence alerts of this name and queue for a time."""
        alert = self._selected_alert()
        if alert is None or not self._session.may_change():
            return
        subject = f"{alert.name} of {alert.queue}" if alert.queue else alert.name
        question = Prompt(
            f"Silence {subject}?",
            "It stays in this list, but notifies nobody and is not counted until the time is over.",
            "silence",
            value=_DEFAULT_SILENCE,
            placeholder="30 min, 4 h, 2 d",
            check=_time_problem,
        )
        answer = await self.app.push_screen_wait(question)
        if answer is None:
            return
        seconds = alert_text.parse_time(answer)
        verb = self._session.operations.alerts.silence(alert.name, alert.queue, seconds)
        if await self._session.run(verb) is not None:
            self.notify(f"{subject} silenced for {answer}", markup=False)
            self._session.refresh()

    @work(exclusive=True, group="decision")
    async def action_end_silence(self) -> None:
        """End the silence of this alert."""
        alert = self._selected_alert()
        if alert is None or not self._session.may_change():
            return
        if not alert.is_silenced:
            self.notify(f"this alert is {alert.state}, not silenced")
            return
        question = Confirm("End this silence?", f"{alert.name} is counted and notifies again.", "End it")
        if not await self.app.push_screen_wait(question):
            return
        count = await self._session.run(self._session.operations.alerts.end_silence(alert.name, alert.queue))
        if count:
            self.notify("the silence has ended")
        elif count == 0:
            self.notify("a wider silence covers it: couturecast-tui alerts list shows it", severity="warning")
        self._session.refresh()


class RunbookDialog(ModalScreen[None]):
    """The meaning of an alert, and what to do."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "close", "Close")]

    def __init__(self, alert: str) -> None:
        super().__init__()
        self._alert = alert

    def compose(self) -> ComposeResult:
        """Compose a text to scroll through."""
        with Vertical(classes="dialog runbook"):
            with VerticalScroll():
                yield Static(alert_text.runbook(self._alert), id="runbook", markup=False)
            yield Static(with_keys(self, "{alerts.close} close"), classes="keys", markup=False)

    def action_close(self) -> None:
        """Close the runbook."""
        self.dismiss(None)


def _time_problem(text: str) -> str:
    try:
        alert_text.parse_time(text)
    except ValueError as error:
        return str(error)
    return ""
