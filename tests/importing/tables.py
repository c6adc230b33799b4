"""The tables of the systems that Syncline takes the place of, as they stand in their documents."""

TABLES = """
create table user_sync_data (
    user_id uuid primary key, data jsonb not null default '{}', updated_at timestamptz,
    created_at timestamptz default now()
);
create table user_sync_data_v2 (
    id bigserial primary key, user_id uuid not null, data_key text not null, data jsonb,
    version integer not null default 1, updated_at timestamptz default now(),
    unique (user_id, data_key)
);
create table student_progress (
    id uuid primary key default gen_random_uuid(), student_id uuid not null, word_set_id uuid,
    homework_id uuid, total_points integer, games_played integer, last_game_type text,
    last_played_at timestamptz
);
create table xp_totals (
    student_id uuid primary key, total_xp integer not null default 0, games_played integer,
    last_game_type text, updated_at timestamptz default now()
);
create table xp_events (
    id uuid primary key, student_id uuid not null, delta integer not null, game_type text,
    created_at timestamptz default now()
);
create table profiles (
    id uuid primary key, display_name text, total_points integer default 0,
    avg_blink_speed real default 2.5, evolution_level integer default 1,
    total_sessions integer default 0, streak_days integer default 0,
    last_session_date timestamp with time zone, subscription_id text, subscription_status text,
    is_subscribed boolean default false, stripe_customer_id text,
    created_at timestamp with time zone default now(),
    updated_at timestamp with time zone default now()
);
create table session_results (
    id text primary key, user_id text not null, thread_id text not null, stitch_id text not null,
    total_questions integer default 0, correct_answers integer default 0,
    total_points integer default 0, accuracy real default 0, blink_speed real default null,
    results jsonb default '[]'::jsonb, is_anonymous boolean default false,
    completed_at timestamp with time zone default now(),
    created_at timestamp with time zone default now()
);
create table user_stitch_progress (
    user_id text not null, thread_id text not null, stitch_id text not null,
    order_number integer default 0, skip_number integer default 5,
    distractor_level text default 'L1', is_completed boolean default false,
    is_anonymous boolean default false,
    last_attempted timestamp with time zone default now(),
    created_at timestamp with time zone default now(),
    updated_at timestamp with time zone default now(),
    primary key (user_id, thread_id, stitch_id)
);
create table users (
    id serial primary key, email text, password_hash text, name text, avatar text,
    total_xp integer default 0, streak integer default 0, last_active_date date
);
create table user_stats (
    "userId" text primary key, xp integer, hearts integer, diamonds integer, level integer,
    streak integer, accuracy real, "maxStreak" integer, "completedQuestions" integer,
    "correctAnswers" integer, "wrongAnswers" integer, "totalQuestions" integer,
    "timePerQuestion" jsonb, "totalTimeSpent" integer, "lastGameResults" jsonb,
    "updatedAt" timestamptz
);
"""
