# The image of jitway's gateway and worker: docker build -t jitway .
#
# Python is the one that the tests run on. The tag moves with its fixes: pin its digest where you build.
# The paths of RUN are relative, and a test runs every one of them in a clean directory.
FROM python:3.11-slim-bookworm AS build
WORKDIR /
COPY requirements/runtime.txt checkout/requirements/
RUN python3 -m venv opt/jitway
RUN opt/jitway/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r checkout/requirements/runtime.txt
COPY pyproject.toml README.md LICENSE checkout/
COPY src checkout/src/
RUN opt/jitway/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation ./checkout
# The user has a name: PostgreSQL's initdb, for the embedded server, asks for it.
RUN mkdir -p etc var/lib/jitway && echo 'jitway:x:10001:10001::/var/lib/jitway:/usr/sbin/nologin' >>etc/passwd && echo 'jitway:x:10001:' >>etc/group

FROM python:3.11-slim-bookworm
COPY --from=build /etc/passwd /etc/group /etc/
COPY --from=build /opt/jitway /opt/jitway
COPY --from=build --chown=10001:10001 /var/lib/jitway /var/lib/jitway
ENV PATH=/opt/jitway/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/jitway \
    HOST=0.0.0.0 \
    PORT=3000 \
    JITWAY_DATA_DIR=/var/lib/jitway
WORKDIR /var/lib/jitway
USER 10001:10001
# Nothing else is written but /tmp: the root may be read-only, and no capability is needed.
VOLUME /var/lib/jitway
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/live', timeout=2)"]
ENTRYPOINT ["jitway"]
CMD ["serve"]
