sync { default.rsync, source = "/srv/a", target = "web::a" }
sync { default.rsync, source = "/srv/b" target = "web::b" }
