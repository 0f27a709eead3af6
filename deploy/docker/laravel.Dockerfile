# The Laravel of examples/laravel on Debian's PHP and framework, served by PHP itself: to try Sluice with, not to put on the Internet.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends php-cli php-laravel-framework php-guzzlehttp-guzzle php-sqlite3 php-curl php-xml php-mbstring \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10002 --user-group --home-dir /var/lib/laravel --create-home --shell /usr/sbin/nologin laravel
COPY examples/laravel /srv/laravel
ENV APP_STORAGE=/var/lib/laravel/storage DB_DATABASE=/var/lib/laravel/database.sqlite
USER 10002:10002
WORKDIR /srv/laravel
VOLUME /var/lib/laravel
EXPOSE 8000
CMD ["sh", "-c", "touch \"$DB_DATABASE\" && php artisan migrate --force && exec php -S 0.0.0.0:8000 -t public public/index.php"]
