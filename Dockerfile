# The headless workers.  Build: docker build -t couturecast-tui .
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/couturecast
ENV PATH=/opt/couturecast/bin:$PATH
WORKDIR /src
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY couturecast_handlers/ couturecast_handlers/
COPY couturecast_tui couturecast_tui
COPY storage storage
COPY workers workers
COPY tui tui
COPY app app
RUN pip install --no-deps .

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 couturecast \
    && install --directory --owner couturecast --mode 0700 /data
COPY --from=build /opt/couturecast /opt/couturecast
ENV PATH=/opt/couturecast/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    COUTURECAST_DATA_DIR=/data
USER 10001
WORKDIR /home/couturecast
VOLUME /data
# An orchestrator that restarts unhealthy containers must not do so while Redis is down: live, not ready.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["couturecast-tui", "probe", "live"]
# SIGTERM drains: running jobs have COUTURECAST_DRAIN_SECONDS (30) to end, so give the container longer than that.
STOPSIGNAL SIGTERM
ENTRYPOINT ["couturecast-tui"]
CMD ["--no-ui"]
