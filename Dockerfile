# Two stages: the first installs, the second holds only what runs.
FROM python:3.13-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/homeroom
# The dependencies first: their layer is kept until the lock or the list changes. setuptools wants no sources for them.
COPY requirements.lock setup.cfg pyproject.toml README.md ./
RUN /opt/homeroom/bin/pip install --constraint requirements.lock . && /opt/homeroom/bin/pip uninstall --yes homeroom
COPY actors actors
COPY server server
COPY storage storage
RUN /opt/homeroom/bin/pip install --no-deps .

FROM python:3.13-slim
# Nothing here needs root, the embedded PostgreSQL included.
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin homeroom \
    && install --directory --owner homeroom --group homeroom --mode 0700 /data
COPY --from=build /opt/homeroom /opt/homeroom
COPY config.toml /etc/homeroom/config.toml
ENV PATH=/opt/homeroom/bin:$PATH PYTHONUNBUFFERED=1
USER homeroom
WORKDIR /data
VOLUME /data
EXPOSE 8080
# Longer than server.drain_s, or a stop cuts the drain short: docker run --stop-timeout 20.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
CMD ["homeroom", "serve", "--config", "/etc/homeroom/config.toml", "--data", "/data", "--host", "0.0.0.0"]
