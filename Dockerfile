# Builds voldfs and runs its tests as tools/test does on a machine:
#   docker build -t voldfs . && docker run --rm --privileged voldfs
# (--privileged: the tests mount file systems.)
ARG DEBIAN=12
FROM debian:${DEBIAN}
COPY tools/install-deps tools/debian-source /src/tools/
RUN /src/tools/install-deps
COPY . /src
WORKDIR /src
RUN cmake --preset release && cmake --build --preset release
CMD ["tools/test"]
