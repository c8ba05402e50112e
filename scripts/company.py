"""Makes a new AIRFLOW_HOME: the database, and the roles, people and DAGs of
dags/company.json in it. Run by the Python of the Airflow it is for, in one
process, because importing Airflow is what takes the time."""

import json
import os
import secrets
from pathlib import Path

from airflow.cli.cli_parser import get_parser


def airflow(*command):
    args = get_parser().parse_args(command)
    args.func(args)


def seed(company):
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        manager = builder.sm
        manager.sync_roles()
        for role in company["roles"]:
            made = manager.add_role(role["name"])
            for action, resource in role["permissions"]:
                manager.add_permission_to_role(made, manager.create_permission(action, resource))
        for user in company["users"]:
            made = manager.add_user(
                user["username"],
                user["first_name"],
                user["last_name"],
                user["email"],
                [manager.find_role(name) for name in user["roles"]],
                password=user.get("password") or secrets.token_hex(),
            )
            if not made:
                raise SystemExit(f"user {user['username']} could not be made")
            if not user["active"]:  # which the API can't set
                made.active = False
                manager.update_user(made)


company = json.loads(Path(os.environ["AIRFLOW_HOME"], "dags", "company.json").read_text("utf-8"))
airflow("db", "migrate")
seed(company)  # before the DAGs, whose access_control may only name roles there are
airflow("dags", "reserialize")
